"""A listening port whose connections are bounded in number and time until they have authenticated."""

import asyncio
import contextlib
import errno
import ipaddress
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from fleet import logs
from fleet.process import ports
from fleet.process.repeats import Repeats
from fleet.settings import HostPort

log = logs.logger(__name__)

BACKLOG = 1024
CONNECTIONS = 128
"""Connections that have not authenticated. A member that joins has one at each port, for a few round trips."""
AUTHENTICATE_WITHIN = 10.0
"""Seconds from the connection until it must have authenticated. Members give up after five."""

ABSENT = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
"""Errors of an address that a name has and this machine has not, such as ``::1`` without IPv6."""
EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
"""Errors that mean the system has no room for another connection now."""
ACCEPT_AGAIN = 0.5
"""Seconds until the next attempt then."""


class Client:
    """One accepted connection."""

    def __init__(self, sock: socket.socket, name: Any) -> None:
        self.sock = sock
        host, port = name[:2]
        self.address = f"ipv6:[{host}]:{port}" if ":" in host else f"ipv4:{host}:{port}"
        """In gRPC's notation."""
        self.source = source_of(host)
        self.authenticated = asyncio.Event()
        self.deadline: asyncio.TimerHandle
        self.task: asyncio.Task[None]

    def drop(self) -> None:
        """End the connection at once, with all that runs for it."""
        self.task.cancel()


class Listener:
    """Listens at ``address`` from its construction on; raises ``OSError``, with the ``setting``'s name, when it cannot.

    ``handle`` gets each client and returns when its connection may be closed; it need not catch ``OSError``.
    """

    def __init__(self, setting: str, address: HostPort, handle: Callable[[Client], Awaitable[None]]) -> None:
        try:
            self._sockets = _listen(address)
        except OSError as error:
            raise OSError(ports.failure(setting, address, error)) from error
        self.port: int = self._sockets[0].getsockname()[1]
        self._handle = handle
        self._accepting: list[asyncio.Task[None]] = []
        self._clients: set[asyncio.Task[None]] = set()
        self._pending: dict[Client, None] = {}
        """Those that have not authenticated, the oldest first."""
        self._repeats = Repeats()
        self.refusals = Counter[str]()
        """By a word for the reason: each, whether it is logged or not."""

    @property
    def pending(self) -> int:
        """Connections that have not authenticated."""
        return len(self._pending)

    async def serve(self) -> None:
        """Accept connections until :meth:`close`, and serve them until cancelled.

        Raises a group of ``OSError`` when nothing can be accepted any more.
        """
        try:
            async with asyncio.TaskGroup() as group:
                for sock in self._sockets:
                    self._accepting.append(group.create_task(self._accept(sock)))
            await asyncio.get_running_loop().create_future()
        finally:
            self.close()
            _close(self._sockets)
            for client in self._clients:
                client.cancel()
            await asyncio.gather(*self._clients, return_exceptions=True)

    def close(self) -> None:
        for task in self._accepting:
            task.cancel()
        if not self._accepting:  # otherwise each task closes its socket, when the loop has stopped to watch it
            _close(self._sockets)

    def authenticated(self, client: Client) -> None:
        client.authenticated.set()
        self._release(client)

    def drop(self, client: Client, kind: str, reason: str) -> None:
        """End a client that has not authenticated."""
        self.report("dropped a connection", kind, reason, peer=client.address)
        self._release(client)
        client.drop()

    def report(self, event: str, kind: str, reason: str, **fields: str) -> None:
        self.refusals[kind] += 1
        if self._repeats.is_new(reason):
            log.warning(event, reason=reason, **fields)

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with listening:
            while True:
                try:
                    sock, name = await loop.sock_accept(listening)
                except ConnectionAbortedError:
                    continue
                except OSError as error:
                    if error.errno not in EXHAUSTED:
                        raise
                    self.report("cannot accept a connection", "exhausted", (error.strerror or "").lower())
                    await asyncio.sleep(ACCEPT_AGAIN)
                    continue
                self._begin(Client(sock, name))
                await asyncio.sleep(0)  # sock_accept does not yield while connections wait

    def _begin(self, client: Client) -> None:
        client.task = asyncio.create_task(self._run(client))
        self._clients.add(client.task)
        client.deadline = asyncio.get_running_loop().call_later(
            AUTHENTICATE_WITHIN, self.drop, client, "timeout", "it has not authenticated in time"
        )
        self._pending[client] = None
        if len(self._pending) > CONNECTIONS:
            # The source with the most loses its oldest, so that no source can keep the others out.
            source, _ = Counter(pending.source for pending in self._pending).most_common(1)[0]
            surplus = next(pending for pending in self._pending if pending.source == source)
            self.drop(surplus, "flood", "too many connections have not authenticated, most of them from its address")

    async def _run(self, client: Client) -> None:
        try:
            await self._handle(client)
        except OSError:
            pass  # the connection has ended
        except Exception as error:
            log.error("a connection failed", peer=client.address, exc_info=error)
        finally:
            self._release(client)
            with contextlib.suppress(OSError):  # a transport that is still open ends by this, too
                client.sock.shutdown(socket.SHUT_RDWR)
            client.sock.close()
            self._clients.discard(client.task)

    def _release(self, client: Client) -> None:
        self._pending.pop(client, None)
        client.deadline.cancel()


def source_of(host: str) -> str:
    """What counts as one source: an IPv4 address, or the 64 bits of an IPv6 address that name its network."""
    address = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(address, ipaddress.IPv4Address):
        return host
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(address), 64), strict=False))


def _listen(address: HostPort) -> list[socket.socket]:
    """At every address of a name: ``localhost`` often has two, and a member may dial either."""
    sockets: list[socket.socket] = []
    absent: OSError | None = None
    try:
        for family, kind, protocol, _, where in dict.fromkeys(socket.getaddrinfo(*address, type=socket.SOCK_STREAM)):
            if sockets:  # where any free port will do, it is the same for all
                where = (where[0], sockets[0].getsockname()[1], *where[2:])
            try:
                sockets.append(_listen_at(socket.socket(family, kind, protocol), where))
            except OSError as error:
                if error.errno not in ABSENT:
                    raise
                absent = error
        if absent is not None and not sockets:
            raise absent
    except OSError:
        _close(sockets)
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


def _close(sockets: Iterable[socket.socket]) -> None:
    for sock in sockets:
        sock.close()
