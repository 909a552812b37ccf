"""Which processes have said that they are ready: each has a socket for that, whose path it finds in its environment."""

import asyncio
import tempfile
from collections.abc import Iterable
from pathlib import Path
from socket import AF_UNIX
from typing import Self

from fleet.process import notice


class Notices:
    """Listens within its ``async with``."""

    def __init__(self, names: Iterable[str]) -> None:
        self.told: dict[str, str] = {}
        """What each process said of itself when it was ready."""
        self._names = list(names)
        # The path of a socket has 100 characters at most, and TMPDIR may be longer.
        self._folder = tempfile.TemporaryDirectory(prefix="chatfleet-", dir="/tmp")
        self._transports: list[asyncio.DatagramTransport] = []

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        for name in self._names:
            listening = loop.create_datagram_endpoint(
                lambda name=name: _Receiver(self.told, name),  # type: ignore[misc]
                local_addr=self._path(name),
                family=AF_UNIX,
            )
            self._transports.append((await listening)[0])
        return self

    async def __aexit__(self, *_: object) -> None:
        for transport in self._transports:
            transport.close()
        self._folder.cleanup()

    def environment(self, name: str) -> dict[str, str]:
        return {notice.VARIABLE: self._path(name)} if name in self._names else {}

    def _path(self, name: str) -> str:
        return str(Path(self._folder.name) / name)


class _Receiver(asyncio.DatagramProtocol):
    def __init__(self, told: dict[str, str], name: str) -> None:
        self._told = told
        self._name = name

    def datagram_received(self, data: bytes, _: object) -> None:
        lines = data.decode(errors="replace").split("\n")
        if notice.READY in lines:
            status = [line.removeprefix(notice.STATUS) for line in lines if line.startswith(notice.STATUS)]
            self._told[self._name] = " ".join(status)
