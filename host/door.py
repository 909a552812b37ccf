"""The host's one port: what a connection begins with tells whether it is for the relay or for gRPC.

gRPC's server takes no connection that something else has accepted. So it listens on loopback, at a port that nobody is
told, and everything but the relay is passed on to it byte for byte, TLS included. Little comes that way once a member
has its relay.
"""

import asyncio
import contextlib
import errno
import socket
from collections.abc import Callable, Coroutine
from typing import Any, cast

from fleet.link import KEEPALIVE_TIME, KEEPALIVE_TIMEOUT
from fleet.relay import MAGIC
from fleet.settings import HostPort

LOOPBACK = "127.0.0.1"
BACKLOG = 1024
ABSENT = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
"""IPv6, where a machine has a name for it and nothing else."""

LINGER = KEEPALIVE_TIME + KEEPALIVE_TIMEOUT
"""Seconds in which a guest must take some of what waits for it: a pipe that is full does not hear that gRPC ended."""


class Door:
    """Listens at ``address`` from its construction on; raises ``OSError`` when that cannot be had.

    ``relay`` makes the protocol that takes a connection over after its :data:`~fleet.relay.MAGIC`. A connection that
    says nothing for ``patience`` seconds is dropped.
    """

    def __init__(self, address: HostPort, relay: Callable[[], asyncio.Protocol], patience: float) -> None:
        self._sockets = _listen(address)
        self._relay = relay
        self._patience = patience
        self._servers: list[asyncio.Server] = []
        self._inner_port = 0
        self._guests: dict[int, _Guest] = {}
        """Who is behind each of our own connections to gRPC, by its local port."""

    async def open(self, inner_port: int) -> None:
        """Let connections in; gRPC's server must listen at ``inner_port`` on loopback by now."""
        self._inner_port = inner_port
        loop = asyncio.get_running_loop()
        for sock in self._sockets:
            self._servers.append(await loop.create_server(self._guest, sock=sock, backlog=BACKLOG))

    def close(self) -> None:
        """Let nobody in any more."""
        for server in self._servers:
            server.close()
        for sock in self._sockets:
            sock.close()

    def peer(self, inner: str) -> str:
        """The address behind what gRPC takes for its peer; both in gRPC's notation."""
        guest = self._behind(inner)
        return inner if guest is None else guest.address

    def hang_up(self, inner: str) -> None:
        """Cut the connection behind what gRPC takes for its peer, and every call on it."""
        guest = self._behind(inner)
        if guest is not None:
            guest.transport.abort()

    def _behind(self, inner: str) -> "_Guest | None":
        port = inner.rpartition(":")[2]
        return self._guests.get(int(port)) if port.isdigit() else None

    def _guest(self) -> "_Guest":
        return _Guest(self._relay, self._connect, self._patience)

    async def _connect(self, guest: "_Guest") -> "_Inner":
        pipe = lambda: _Inner(guest, self._guests)  # noqa: E731
        _, inner = await asyncio.get_running_loop().create_connection(pipe, LOOPBACK, self._inner_port)
        return inner


def _listen(address: HostPort) -> list[socket.socket]:
    """At every address of a name: ``localhost`` often has two, and a member may dial either."""
    sockets: list[socket.socket] = []
    absent: OSError | None = None
    try:
        for family, kind, protocol, _, where in dict.fromkeys(socket.getaddrinfo(*address, type=socket.SOCK_STREAM)):
            try:
                sockets.append(_listen_at(socket.socket(family, kind, protocol), where))
            except OSError as error:
                if error.errno not in ABSENT:
                    raise
                absent = error
        if absent is not None and not sockets:
            raise absent
    except OSError:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def _listen_at(sock: socket.socket, where: tuple[Any, ...]) -> socket.socket:
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(where)
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


class _End(asyncio.Protocol):
    """One of two connections, of which each sends what the other receives, and which end together."""

    transport: asyncio.Transport

    def __init__(self, other: "_End | None" = None) -> None:
        self.other = other

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        with contextlib.suppress(OSError):
            transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        if self.other is not None and not self.other.transport.is_closing():
            self.other.transport.write(data)

    def connection_lost(self, error: Exception | None) -> None:
        if self.other is not None:
            if error is None:
                self.other.finish()
            else:
                self.other.transport.abort()

    def finish(self) -> None:
        """End once all is sent."""
        self.transport.close()

    def pause_writing(self) -> None:
        if self.other is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None:
            self.other.transport.resume_reading()


class _Guest(_End):
    """A connection from outside."""

    def __init__(
        self,
        relay: Callable[[], asyncio.Protocol],
        connect: "Callable[[_Guest], Coroutine[Any, Any, _Inner]]",
        patience: float,
    ) -> None:
        super().__init__()
        self.address = "unknown"
        self._relay = relay
        self._connect = connect
        self._patience = patience
        self._begin = b""
        self._expiry: asyncio.TimerHandle | None = None
        self._joining: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.address = _notation(transport.get_extra_info("peername"))
        self._expire_in(self._patience)

    def data_received(self, data: bytes) -> None:
        if self.other is not None:
            super().data_received(data)
            return
        self._begin += data
        if len(self._begin) < len(MAGIC) and MAGIC.startswith(self._begin):
            return
        self._stay()
        if self._begin.startswith(MAGIC):
            protocol = self._relay()
            self.transport.set_protocol(protocol)
            protocol.connection_made(self.transport)
            if rest := self._begin[len(MAGIC) :]:
                protocol.data_received(rest)
        elif self._joining is None:
            self.transport.pause_reading()
            self._joining = asyncio.get_running_loop().create_task(self._join())

    def connection_lost(self, error: Exception | None) -> None:
        self._stay()
        if self._joining is not None:
            self._joining.cancel()
        super().connection_lost(error)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._expire_in(LINGER)

    def resume_writing(self) -> None:
        if not self.transport.is_closing():
            self._stay()
        super().resume_writing()

    def finish(self) -> None:
        if not self.transport.is_closing():
            super().finish()
            self._stay()
            self._expire_in(LINGER)

    def _expire_in(self, seconds: float) -> None:
        self._expiry = asyncio.get_running_loop().call_later(seconds, self.transport.abort)

    def _stay(self) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None

    async def _join(self) -> None:
        try:
            inner = await self._connect(self)
        except OSError:  # the host is about to stop
            self.transport.abort()
            return
        if inner.transport.is_closing():
            return  # and this end is, or will be
        self.other = inner
        self.transport.resume_reading()  # first, because the write may pause it again
        inner.transport.write(self._begin)
        self._begin = b""


class _Inner(_End):
    """The connection to gRPC that carries a guest's bytes on. ``guests`` tells whose it is while it is open."""

    def __init__(self, guest: _Guest, guests: dict[int, _Guest]) -> None:
        super().__init__(guest)
        self._guest = guest
        self._guests = guests
        self._port = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._port = transport.get_extra_info("sockname")[1]
        self._guests[self._port] = self._guest

    def connection_lost(self, error: Exception | None) -> None:
        self._guests.pop(self._port, None)
        super().connection_lost(error)


def _notation(name: tuple[object, ...] | None) -> str:
    if not name:
        return "unknown"
    host, port = name[:2]
    return f"ipv6:[{host}]:{port}" if ":" in str(host) else f"ipv4:{host}:{port}"
