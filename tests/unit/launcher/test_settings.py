"""The launcher's settings, and what its processes get of them."""

import pytest

from fleet.settings import BAD_SETTINGS, HostPort, load
from launcher.settings import LauncherSettings


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    binds = ("HOST_BIND", "HOST_RELAY_BIND", "GATEWAY_BIND", "MODEL_BIND", "HOST_HEALTH_BIND", "WORKER_HEALTH_BIND")
    for name in ("WORKERS", "FLEET_HOST", *binds):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(("given", "other"), [("HOST_BIND", "FLEET_HOST"), ("FLEET_HOST", "HOST_BIND")])
def test_one_variable_moves_the_host_and_its_members(given: str, other: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(given, "127.0.0.1:50099")
    settings = load(LauncherSettings)
    assert ("host", "HOST_BIND", HostPort("127.0.0.1", 50099)) in settings.binds()
    assert "HOST_RELAY_BIND" not in [name for _, name, _ in settings.binds()], "any free port on loopback"
    assert settings.environment({})[other] == "127.0.0.1:50099"


def test_the_relay_may_have_any_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOST_RELAY_BIND", "127.0.0.1:7000")
    assert ("host", "HOST_RELAY_BIND", HostPort("127.0.0.1", 7000)) in load(LauncherSettings).binds()


def test_beyond_loopback_the_relay_has_the_port_after_the_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOST_BIND", "0.0.0.0:50099")
    assert ("host", "HOST_RELAY_BIND", HostPort("0.0.0.0", 50100)) in load(LauncherSettings).binds()


def test_each_worker_has_a_port_of_its_own_for_its_health(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKERS", "2")
    monkeypatch.setenv("WORKER_HEALTH_BIND", "127.0.0.1:8510")
    monkeypatch.setenv("HOST_HEALTH_BIND", "127.0.0.1:8520")
    settings = load(LauncherSettings)
    assert settings.own("worker.1") == {"WORKER_HEALTH_BIND": "127.0.0.1:8510"}
    assert settings.own("worker.2") == {"WORKER_HEALTH_BIND": "127.0.0.1:8511"}
    assert settings.own("gateway") == {}
    checked = [(name, str(bind)) for name, variable, bind in settings.binds() if variable.endswith("_HEALTH_BIND")]
    assert checked == [("host", "127.0.0.1:8520"), ("worker", "127.0.0.1:8510"), ("worker", "127.0.0.1:8511")]


def test_without_an_address_for_health_no_worker_gets_one() -> None:
    assert LauncherSettings().own("worker.1") == {}


def test_members_dial_a_host_that_listens_everywhere_at_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOST_BIND", "0.0.0.0:50051")
    monkeypatch.setenv("MODEL_BIND", "[::]:8502")
    implied = load(LauncherSettings).environment({})
    assert implied["FLEET_HOST"] == "127.0.0.1:50051"
    assert implied["MODEL_URL"] == "http://[::1]:8502/v1"


def test_what_is_set_stays_as_it_is() -> None:
    given = {"WORKER_DRAIN_TIMEOUT": "60", "MODEL_URL": "http://elsewhere/v1", "FLEET_TOKEN": "t" * 16}
    assert given.items() <= LauncherSettings().environment(given).items()


def test_an_impossible_number_of_workers_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORKERS", "many")
    with pytest.raises(SystemExit) as ended:
        load(LauncherSettings)
    assert ended.value.code == BAD_SETTINGS
    assert capsys.readouterr().err.startswith("WORKERS: ")
