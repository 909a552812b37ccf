"""How a process tells that it is ready."""

import socket
from pathlib import Path

import pytest

from fleet.process import notice


@pytest.mark.parametrize("abstract", [False, True])
def test_it_tells_whoever_asked_as_systemd_wants_it(
    abstract: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"@chatfleet-{tmp_path.name}" if abstract else str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as asks:
        asks.bind(path.replace("@", "\0"))
        monkeypatch.setenv("NOTIFY_SOCKET", path)
        notice.ready("smollm2")
        assert asks.recv(100) == b"READY=1\nSTATUS=smollm2"


@pytest.mark.parametrize("address", ["", "/nowhere/socket"])
def test_nobody_who_asks_is_no_error(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    notice.ready("smollm2")
