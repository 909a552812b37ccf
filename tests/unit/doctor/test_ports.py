"""What is said of a port."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from doctor import ports
from doctor.findings import Level
from doctor.processes import Process
from fleet.settings import HostPort
from tests.harness.waiting import SOON

BIND = HostPort("127.0.0.1", 8503)


@pytest.fixture
def owners(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Who has the port, and does not answer."""

    def no_answer(url: str, key: str = "") -> Any:
        raise OSError("timed out")

    found: list[str] = []
    monkeypatch.setattr("fleet.process.ports.obstacle", lambda *_: "port 8503 is taken")
    monkeypatch.setattr("doctor.processes.owners", lambda _: found)
    monkeypatch.setattr(ports, "fetch", no_answer)
    return found


def test_a_member_that_hangs_is_not_taken_for_a_stranger_on_its_port(owners: list[str]) -> None:
    owners.append("python -m worker (pid 7)")
    found = ports.check(ports.HEALTH, "WORKER_HEALTH_BIND", BIND, is_expected=True)
    assert found.level is Level.PROBLEM
    assert "python -m worker (pid 7) has the port, but it does not answer HTTP: timed out" in found.text
    assert "another" not in found.advice


def test_of_a_stranger_on_the_port_it_says_how_to_avoid_it(owners: list[str]) -> None:
    owners.append("nginx (pid 7)")
    found = ports.check(ports.HEALTH, "WORKER_HEALTH_BIND", BIND, is_expected=True)
    assert "port 8503 is taken (nginx (pid 7))" in found.text
    assert found.advice == "end that, or set WORKER_HEALTH_BIND to another"


def test_each_address_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOST_HEALTH_BIND", str(BIND))
    binds = ports.binds(cast("Process", SimpleNamespace(kind="host")))
    assert [setting for _, setting, bind in binds if bind == BIND] == ["HOST_HEALTH_BIND"]


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What answers is heard, however long the machine stands still."""
    monkeypatch.setattr(ports, "TIMEOUT", SOON)


@contextlib.contextmanager
def answering(data: bytes) -> Iterator[HostPort]:
    """The address of a server that answers one connection, with this."""

    def answer() -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(1024)
            connection.sendall(data)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=answer)
        thread.start()
        yield HostPort(*server.getsockname())
        thread.join()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"SSH-2.0-x\r\n", "it does not answer HTTP: it sent 'SSH-2.0-x'"),
        (b"", "it does not answer HTTP: Remote end closed"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{", "it is no gateway of chatfleet"),
    ],
)
@pytest.mark.usefixtures("patient")
def test_what_has_the_port_and_is_no_gateway_is_told(answer: bytes, said: str) -> None:
    with answering(answer) as address:
        found = ports.check("gateway", "GATEWAY_BIND", address, is_expected=False)
    assert found.level is Level.PROBLEM
    assert said in found.text


@pytest.mark.usefixtures("patient")
def test_metrics_are_no_error_page() -> None:
    answer = b"HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\nno"
    with answering(answer) as address, pytest.raises(OSError, match="it answers 404"):
        ports.read_text(f"http://{address}/metrics")
