"""The health check of containers."""

import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from fleet.process import probe
from tests.harness.process import ENDS

Answering = Callable[[bytes], int]


@pytest.fixture
def answering() -> Iterator[Answering]:
    """Start a server that answers one request; gives its port."""
    threads: list[threading.Thread] = []

    def start(answer: bytes) -> int:
        server = socket.create_server(("127.0.0.1", 0))

        def serve() -> None:
            with server, server.accept()[0] as connection:
                connection.recv(4096)
                connection.sendall(answer)

        threads.append(threading.Thread(target=serve))
        threads[-1].start()
        return int(server.getsockname()[1])

    yield start
    for thread in threads:
        thread.join(5)


@pytest.mark.parametrize("code", [200, 503])
def test_the_status_is_that_of_the_answer(code: int, answering: Answering) -> None:
    port = answering(b"HTTP/1.1 %d Some Reason\r\ncontent-length: 0\r\n\r\n" % code)
    assert probe.status(f"http://127.0.0.1:{port}/readyz") == code


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-server\r\n", b"HTTP/1.1\r\n"])
def test_what_is_not_http_is_an_error(answer: bytes, answering: Answering) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        probe.status(f"http://127.0.0.1:{answering(answer)}/")


def test_a_server_that_does_not_answer_in_time_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, pytest.raises(TimeoutError):
        probe.status(f"http://127.0.0.1:{server.getsockname()[1]}/", timeout=0.05)


def test_an_address_of_ipv6_has_brackets(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(address: tuple[str, int], timeout: float) -> None:
        raise OSError(address)

    monkeypatch.setattr(socket, "create_connection", refuse)
    with pytest.raises(OSError, match=r"\('::1', 8501\)"):
        probe.status("http://[::1]:8501/healthz")


@pytest.mark.parametrize(("code", "exit_code"), [(200, 0), (503, 1)])
def test_its_exit_code_says_whether_all_is_well(code: int, exit_code: int, answering: Answering) -> None:
    port = answering(b"HTTP/1.1 %d Some Reason\r\n\r\n" % code)
    command = [sys.executable, "-I", "-S", probe.__file__, f"http://127.0.0.1:{port}/"]
    assert subprocess.run(command, check=False, timeout=ENDS).returncode == exit_code
