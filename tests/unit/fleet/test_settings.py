"""Settings from the environment."""

import pytest
from pydantic import ValidationError

from fleet.settings import BAD_SETTINGS, FleetSettings, HostPort, load
from gateway.settings import GatewaySettings
from host.settings import HostSettings
from worker.settings import WorkerSettings


@pytest.mark.parametrize("kind", [FleetSettings, GatewaySettings, HostSettings, WorkerSettings])
def test_everything_has_a_default(kind: type[FleetSettings]) -> None:
    kind()


@pytest.mark.parametrize(
    ("text", "address", "loopback"),
    [
        ("127.0.0.1:8501", HostPort("127.0.0.1", 8501), True),
        ("localhost:1", HostPort("localhost", 1), True),
        ("[::1]:8501", HostPort("::1", 8501), True),
        ("0.0.0.0:8501", HostPort("0.0.0.0", 8501), False),
        ("host:50051", HostPort("host", 50051), False),
    ],
)
def test_addresses(monkeypatch: pytest.MonkeyPatch, text: str, address: HostPort, loopback: bool) -> None:
    monkeypatch.setenv("FLEET_HOST", text)
    settings = FleetSettings()
    assert settings.host == address
    assert str(settings.host) == text
    assert settings.host.is_loopback is loopback


def test_a_wildcard_is_reached_on_loopback() -> None:
    assert HostPort("0.0.0.0", 1).reachable == ("127.0.0.1", 1)
    assert HostPort("::", 1).reachable == ("::1", 1)
    assert HostPort("10.1.2.3", 1).reachable == ("10.1.2.3", 1)


@pytest.mark.parametrize("text", ["", "x", "x:", ":1", "x:y", "x:0", "x:65536", "x:-1", "a..b:1", "x" * 64 + ":1"])
def test_an_address_that_is_none(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("FLEET_HOST", text)
    with pytest.raises(ValidationError):
        FleetSettings()


def test_a_bad_value_ends_the_process_with_a_line_that_names_the_variable(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORKER_CAPACITY", "many")
    monkeypatch.setenv("WORKER_FLUSH_INTERVAL", "-1")
    with pytest.raises(SystemExit) as ended:
        load(WorkerSettings)
    assert ended.value.code == BAD_SETTINGS
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["WORKER_CAPACITY", "WORKER_FLUSH_INTERVAL"]


def test_a_token_never_shows(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FLEET_TOKEN", "s3cret")
    with pytest.raises(SystemExit):
        load(FleetSettings)
    assert "s3cret" not in capsys.readouterr().err
    monkeypatch.setenv("FLEET_TOKEN", "a-long-enough-s3cret")
    assert "s3cret" not in repr(load(FleetSettings))


def test_a_likely_slip_is_pointed_out(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("GATEWAY_QUEUE_LIMITS", "3")
    load(GatewaySettings)
    assert "did you mean GATEWAY_QUEUE_LIMIT?" in capsys.readouterr().err
