"""What the launcher decides, without a process. What it does with processes: tests/integration/test_launcher.py."""

import io
import os
import signal
import socket
import sys

import pytest

import model
from fleet.settings import BAD_SETTINGS, HostPort, load
from launcher import stack
from launcher.child import ending
from launcher.console import Console
from launcher.ports import obstacle
from launcher.procfile import ProcfileError, Service, instances, parse
from launcher.settings import LauncherSettings, reachable


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WORKERS", "HOST_BIND", "FLEET_HOST", "GATEWAY_BIND", "MODEL_BIND"):
        monkeypatch.delenv(name, raising=False)


def test_a_procfile_names_services_and_runs_them_with_our_interpreter() -> None:
    services = parse("# the fleet\nhost: python -m host\n\nother:  /bin/echo 'two words'\n")
    assert services == [
        Service("host", (sys.executable, "-m", "host")),
        Service("other", ("/bin/echo", "two words")),
    ]


@pytest.mark.parametrize("line", ["python -m host", "host:", ": python", "two words: python"])
def test_a_line_that_is_no_service_is_named(line: str) -> None:
    with pytest.raises(ProcfileError, match="line 2"):
        parse(f"host: python -m host\n{line}\n")


def test_only_workers_are_multiplied() -> None:
    services = parse("host: a\nworker: b\ngateway: c\n")
    assert [name for name, _ in instances(services, 3)] == ["host", "worker.1", "worker.2", "worker.3", "gateway"]


def test_back_off_doubles_to_half_a_minute_and_forgets_after_a_long_life() -> None:
    backoff = stack.Backoff()
    assert [backoff.after(0) for _ in range(7)] == [1, 2, 4, 8, 16, 30, 30]
    assert [backoff.after(61), backoff.after(0)] == [1, 2]


@pytest.mark.parametrize(("code", "words"), [(0, "exit code 0"), (-signal.SIGKILL, "SIGKILL"), (-40, "signal 40")])
def test_an_ending_is_named(code: int, words: str) -> None:
    assert ending(code) == words


def test_the_models_exit_code_means_the_same_to_both() -> None:
    assert stack.MODEL_UNAVAILABLE == model.UNAVAILABLE


@pytest.mark.parametrize(("given", "other"), [("HOST_BIND", "FLEET_HOST"), ("FLEET_HOST", "HOST_BIND")])
def test_one_variable_moves_the_host_and_its_members(given: str, other: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(given, "127.0.0.1:50099")
    settings = load(LauncherSettings)
    assert settings.binds()["host"][1] == HostPort("127.0.0.1", 50099)
    assert settings.environment({})[other] == "127.0.0.1:50099"


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


def test_a_taken_port_is_an_obstacle_and_a_free_one_is_not() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = HostPort("127.0.0.1", other.getsockname()[1])
        assert obstacle(taken) == f"port {taken.port} is taken"
    assert obstacle(taken) == ""
    assert obstacle(HostPort("192.0.2.1", 8501))


def test_a_wildcard_is_reached_on_loopback() -> None:
    assert reachable(HostPort("0.0.0.0", 1)) == ("127.0.0.1", 1)
    assert reachable(HostPort("10.1.2.3", 1)) == ("10.1.2.3", 1)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_lines_say_whose_they_are_in_colour_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    file, terminal = io.StringIO(), Terminal()
    monkeypatch.delenv("NO_COLOR", raising=False)
    for out in (file, terminal):
        Console(out, ["host", "worker.1"], lambda: None).line("host", "listening")
    assert file.getvalue() == "host     | listening\n"
    assert terminal.getvalue() == "\x1b[36mhost     |\x1b[0m listening\n"


def test_a_reader_that_has_gone_is_told_of_once() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    told = []
    out = os.fdopen(writing, "w")
    console = Console(out, ["host"], lambda: told.append(1))
    for _ in range(3):
        console.line("host", "listening")
    assert told == [1]
    with pytest.raises(BrokenPipeError):
        out.close()
