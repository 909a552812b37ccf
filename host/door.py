"""The host's one port: what a connection begins with tells whether it is for the relay or for gRPC.

gRPC's server takes no connection that something else has accepted. So it listens on loopback, at a port that nobody is
told, and everything but the relay is passed on to it byte for byte, TLS included. Little comes that way once a member
has its relay.

A connection that has not authenticated is bounded here, whatever happens on it meanwhile: in time, in the bytes that
gRPC gets from it, and in number. gRPC's server has no such bounds of its own. So all that it keeps, queues or computes
for a peer that has shown nothing yet is bounded too, also within TLS.
"""

import asyncio
import contextlib
import errno
import socket
import time
from collections.abc import Callable, Coroutine
from typing import Any, cast

from fleet import logs
from fleet.bus.link import KEEPALIVE_TIME, KEEPALIVE_TIMEOUT
from fleet.bus.relay import MAGIC
from fleet.process.repeats import Repeats
from fleet.settings import HostPort
from host.pending import Allowance, Pending, source_of

log = logs.logger(__name__)

LOOPBACK = "127.0.0.1"
BACKLOG = 1024
ABSENT = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
"""IPv6, where a machine has a name for it and nothing else."""

EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
"""The system has no room for a connection now."""
ACCEPT_AGAIN = 0.5
"""Seconds until the next try then."""

CONNECTIONS = 128
"""Connections that have not authenticated. A member that joins has one of them, for a few round trips."""
FREE_BYTES = 16 * 1024
"""Bytes that a connection may send at once before it has authenticated. A member needs 10 KiB, most of them for TLS."""
BURST = 2 * 1024 * 1024
RATE = 512 * 1024
"""Bytes, and bytes a second, that all such connections may send together beyond that: enough to refuse large calls."""
LONGEST_WAIT = 10.0
"""Seconds that such a connection may have to wait for its share; one that would wait longer is dropped."""
OPEN_BURST = 128
OPEN_RATE = 50
"""Connections, and connections a second, that are passed on to gRPC; the others wait for their turn."""
AUTHENTICATE_WITHIN = 30.0
"""Seconds from a connection's first bytes until it must have authenticated. A member needs a few round trips."""

LATE = "it has not authenticated in time"
LARGE = "connections send too much before they authenticate"
CROWDED = "too many connections have not authenticated, most of them from its address"
"""Reasons for which a connection is dropped, for the log."""

LINGER = KEEPALIVE_TIME + KEEPALIVE_TIMEOUT
"""Seconds in which a guest must take some of what waits for it: a pipe that is full does not hear that gRPC ended."""


class Door:
    """Listens at ``address`` from its construction on; raises ``OSError`` when that cannot be had.

    ``relay`` makes the protocol that takes a connection over after its :data:`~fleet.bus.relay.MAGIC`; it gets what to
    call once that connection has authenticated, or has ended. A connection that says nothing for ``patience`` seconds
    is dropped.
    """

    def __init__(
        self, address: HostPort, relay: Callable[[Callable[[], None]], asyncio.Protocol], patience: float
    ) -> None:
        self._sockets = _listen(address)
        self._relay = relay
        self._patience = patience
        self._accepting: list[asyncio.Task[None]] = []
        self._inner_port = 0
        self._pending: Pending[_Guest] = Pending(CONNECTIONS)
        self._allowance = Allowance(BURST, RATE, time.monotonic())
        self._guests: dict[int, _Guest] = {}
        """Who is behind each of our own connections to gRPC, by its local port."""
        self._turn = asyncio.Lock()
        self._openings = Allowance(OPEN_BURST, OPEN_RATE, time.monotonic())
        self._repeats = Repeats()

    async def serve(self, inner_port: int) -> None:
        """Let connections in until :meth:`close`; gRPC's server must listen at ``inner_port`` on loopback by now.

        Raises a group of ``OSError`` when nothing can be accepted any more.
        """
        self._inner_port = inner_port
        async with asyncio.TaskGroup() as group:
            self._accepting = [group.create_task(self._accept(sock)) for sock in self._sockets if sock.fileno() >= 0]

    def close(self) -> None:
        """Stop letting connections in."""
        for task in self._accepting:
            task.cancel()
        for sock in self._sockets:
            if self._accepting and sock.fileno() >= 0:
                # Now, because the descriptor may be another's before the task has been cancelled.
                asyncio.get_running_loop().remove_reader(sock)
            sock.close()

    def peer(self, inner: str) -> str:
        """The address behind what gRPC takes for its peer; both in gRPC's notation."""
        guest = self._behind(inner)
        return inner if guest is None else guest.address

    def authenticated(self, inner: str) -> None:
        """Lift the bounds of the connection behind what gRPC takes for its peer: a call on it has been let in."""
        guest = self._behind(inner)
        if guest is not None:
            guest.settle()

    def hang_up(self, inner: str) -> None:
        """Cut the connection behind what gRPC takes for its peer, and every call on it."""
        guest = self._behind(inner)
        if guest is not None:
            guest.transport.abort()

    def _behind(self, inner: str) -> "_Guest | None":
        port = inner.rpartition(":")[2]
        return self._guests.get(int(port)) if port.isdigit() else None

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await _readable(listener)
            try:
                sock, _ = listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                continue
            except OSError as error:
                if error.errno not in EXHAUSTED:
                    raise
                self._report("cannot accept a connection", (error.strerror or "").lower())
                await asyncio.sleep(ACCEPT_AGAIN)
                continue
            sock.setblocking(False)
            try:
                await loop.connect_accepted_socket(self._guest, sock)
            except OSError:  # it has ended already
                sock.close()

    def _guest(self) -> "_Guest":
        return _Guest(self._relay, self._connect, self._patience, self._pending, self._allowance, self._dropped)

    async def _connect(self, guest: "_Guest") -> "_Inner":
        async with self._turn:
            await asyncio.sleep(self._openings.wait(1, time.monotonic()))
            self._openings.take(1)
        guest.pause_reading()  # not before, so that one that has left meanwhile is noticed and not passed on
        pipe = lambda: _Inner(guest, self._guests)  # noqa: E731
        _, inner = await asyncio.get_running_loop().create_connection(pipe, LOOPBACK, self._inner_port)
        return inner

    def _dropped(self, address: str, reason: str) -> None:
        self._report("dropped a connection", reason, peer=address)

    def _report(self, event: str, reason: str, **fields: str) -> None:
        if self._repeats.is_new(reason):
            log.warning(event, reason=reason, **fields)


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
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


async def _readable(listener: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(listener, readable.set)
    try:
        await readable.wait()
    finally:
        if listener.fileno() >= 0:
            loop.remove_reader(listener)


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
            self.other.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None:
            self.other.resume_reading()

    def pause_reading(self) -> None:
        """Read nothing, because the other end takes nothing."""
        self.transport.pause_reading()

    def resume_reading(self) -> None:
        """Read on: the other end takes more."""
        self.transport.resume_reading()


class _Guest(_End):
    """A connection from outside.

    Until it has authenticated, ``pending`` holds it and what it sends comes out of the ``allowance``; ``dropped`` is
    told its address and why it is dropped before that.
    """

    def __init__(
        self,
        relay: Callable[[Callable[[], None]], asyncio.Protocol],
        connect: "Callable[[_Guest], Coroutine[Any, Any, _Inner]]",
        patience: float,
        pending: "Pending[_Guest]",
        allowance: Allowance,
        dropped: Callable[[str, str], None],
    ) -> None:
        super().__init__()
        self.address = "unknown"
        self._source = ""
        self._relay = relay
        self._connect = connect
        self._patience = patience
        self._pending = pending
        self._allowance = allowance
        self._dropped = dropped
        self._settled = False
        """Whether it has authenticated, or ended."""
        self._deadline: asyncio.TimerHandle | None = None
        self._received = 0
        self._held = b""
        """What waits until it may pass; nothing more is read meanwhile."""
        self._holding: asyncio.TimerHandle | None = None
        self._full = False
        """Whether the other end takes nothing."""
        self._begin = b""
        self._expiry: asyncio.TimerHandle | None = None
        self._joining: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        peer = transport.get_extra_info("peername")
        self.address = _notation(peer)
        self._source = source_of(str(peer[0])) if peer else ""
        self._drop_after(self._patience)
        surplus = self._pending.add(self, self._source)
        if surplus is not None:
            surplus.drop(CROWDED)

    def settle(self) -> None:
        """Lift the bounds: it has authenticated, or ended."""
        if not self._settled:
            self._settled = True
            self._pending.remove(self, self._source)
            if self._deadline is not None:
                self._deadline.cancel()
            if self._holding is not None:
                self._release()

    def _drop_after(self, seconds: float) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = asyncio.get_running_loop().call_later(seconds, self.drop, LATE)

    def drop(self, reason: str) -> None:
        """End it at once."""
        if not self.transport.is_closing():
            self._dropped(self.address, reason)
        self.transport.abort()
        self.settle()

    def data_received(self, data: bytes) -> None:
        if not self._settled and self._holds(data):
            return
        self._pass(data)

    def _holds(self, data: bytes) -> bool:
        """Whether the data must wait for their share, or the connection is dropped for them."""
        free = max(0, FREE_BYTES - self._received)
        self._received += len(data)
        size = len(data) - free
        if size <= 0:
            return False
        wait = self._allowance.wait(size, time.monotonic())
        if wait > LONGEST_WAIT:
            self.drop(LARGE)
            return True
        self._allowance.take(size)
        if wait == 0:
            return False
        self._held = data
        self.transport.pause_reading()
        self._holding = asyncio.get_running_loop().call_later(wait, self._release)
        return True

    def _release(self) -> None:
        assert self._holding is not None
        self._holding.cancel()
        self._holding = None
        data, self._held = self._held, b""
        if not self.transport.is_closing():
            self._read()  # first, because what passes may pause it again
            self._pass(data)

    def _pass(self, data: bytes) -> None:
        if self.other is not None:
            super().data_received(data)
            return
        self._begin += data
        if len(self._begin) < len(MAGIC) and MAGIC.startswith(self._begin):
            return
        if self._joining is None:
            self._drop_after(AUTHENTICATE_WITHIN)
        if self._begin.startswith(MAGIC):
            protocol = self._relay(self.settle)
            self.transport.set_protocol(protocol)
            protocol.connection_made(self.transport)
            if rest := self._begin[len(MAGIC) :]:
                protocol.data_received(rest)
        elif self._joining is None:
            self._joining = asyncio.get_running_loop().create_task(self._join())

    def connection_lost(self, error: Exception | None) -> None:
        self.settle()
        self._stay()
        if self._joining is not None:
            self._joining.cancel()
        super().connection_lost(error)

    def pause_reading(self) -> None:
        self._full = True
        super().pause_reading()

    def resume_reading(self) -> None:
        self._full = False
        self._read()

    def _read(self) -> None:
        if not self._full and self._holding is None:
            self.transport.resume_reading()

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
        self.resume_reading()  # first, because the write may pause it again
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
