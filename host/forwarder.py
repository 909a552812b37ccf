"""Passes connections on to gRPC's server, byte by byte, and bounds what a client sends before it has authenticated.

gRPC's server cannot be given an accepted connection, and its own options do not bound what it keeps for clients that
have shown nothing yet. With all that apply (limits of streams, metadata, pending requests, connections, read sizes),
clients that send 16 KiB and leave took the host to 1.1-2.0 GiB within five seconds, and inflating messages to 530 MiB;
options strict enough for 250 MiB refused members' calls too. With these bounds the same attacks end at 66-122 MiB. So
gRPC's server listens on loopback, at a port that is told to no one, and everything comes through here. Little does once
a member has its relay.
"""

import asyncio
import contextlib
import socket
import time

from fleet.bus.link import KEEPALIVE_TIME, KEEPALIVE_TIMEOUT
from fleet.settings import HostPort
from host.listener import Client, Listener

LOOPBACK = "127.0.0.1"

FREE_BYTES = 16 * 1024
"""Bytes that a connection may send before it has authenticated. A member needs 10 KiB, most of them for TLS."""
BURST = 2 * 1024 * 1024
RATE = 512 * 1024
"""Bytes, and bytes a second, that all such connections may send together beyond that: enough to refuse large calls."""
LONGEST_WAIT = 10.0
"""Seconds that such a connection may have to wait for its share; one that would wait longer is dropped."""
OPEN_BURST = 128
OPEN_RATE = 50
"""Connections, and connections a second, that are passed on to gRPC; the others wait for their turn."""

LINGER = KEEPALIVE_TIME + KEEPALIVE_TIMEOUT
"""Seconds in which a client must read some of what waits for it: with a full buffer it would never see gRPC's end."""
CHUNK = 32 * 1024
"""Bytes that are read at once. At most three times as many wait for each direction."""


class Allowance:
    """A token bucket: ``burst`` units at once, and ``rate`` a second from then on.

    Times are seconds of any clock that only goes forward.
    """

    def __init__(self, burst: int, rate: int, now: float) -> None:
        self._burst = burst
        self._rate = rate
        self._level = float(burst)
        self._at = now

    def wait(self, size: int, now: float) -> float:
        """Seconds until ``size`` units may pass."""
        self._level = min(self._burst, self._level + (now - self._at) * self._rate)
        self._at = now
        return max(0.0, (size - self._level) / self._rate)

    def spend(self, size: int) -> None:
        """Count what passes, or will after its wait. What comes later waits for longer."""
        self._level -= size


class Forwarder:
    """Listens at ``address`` for the server at ``server_port`` on loopback, which may be set later.

    gRPC's server knows each client by the local port of our own connection to it, its "peer".
    """

    def __init__(self, address: HostPort) -> None:
        self.listener = Listener("HOST_BIND", address, self._handle)
        self.server_port = 0
        self._clients: dict[int, Client] = {}
        """By local port."""
        self._turn = asyncio.Lock()
        self._connections = Allowance(OPEN_BURST, OPEN_RATE, time.monotonic())
        self._bytes = Allowance(BURST, RATE, time.monotonic())

    def address(self, peer: str) -> str:
        """The address behind a peer; both in gRPC's notation."""
        client = self._client(peer)
        return peer if client is None else client.address

    def authenticated(self, peer: str) -> None:
        """Lift the bounds of the connection behind a peer."""
        if client := self._client(peer):
            self.listener.authenticated(client)

    def drop(self, peer: str) -> None:
        """Cut the connection behind a peer, and every call on it."""
        if client := self._client(peer):
            client.drop()

    def _client(self, peer: str) -> Client | None:
        port = peer.rpartition(":")[2]
        return self._clients.get(int(port)) if port.isdigit() else None

    async def _handle(self, client: Client) -> None:
        reader, writer = await _open(client.sock)
        try:
            first = await reader.read(CHUNK)
            async with self._turn:
                if first and not writer.is_closing():
                    await asyncio.sleep(self._connections.wait(1, time.monotonic()))
                if not first or writer.is_closing():
                    return
                self._connections.spend(1)
            await self._forward(client, first, reader, writer)
        finally:
            _abort(writer)

    async def _forward(
        self, client: Client, first: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        from_server, to_server = await asyncio.open_connection(LOOPBACK, self.server_port, limit=CHUNK)
        port: int = to_server.get_extra_info("sockname")[1]
        self._clients[port] = client
        sending = asyncio.create_task(self._send(client, first, reader, to_server))
        try:
            while (data := await from_server.read(CHUNK)) and not writer.is_closing():  # uvloop's would raise
                writer.write(data)
                async with asyncio.timeout(LINGER):
                    await writer.drain()
            if not (client.authenticated.is_set() or writer.is_closing()):
                reason = "TLS or HTTP/2 failed before it authenticated; the other side's log may say more"
                self.listener.report("refused a connection", "tls", reason, peer=client.address)
            writer.close()
            async with asyncio.timeout(LINGER):
                await writer.wait_closed()
        finally:
            del self._clients[port]
            _abort(to_server)
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    async def _send(
        self, client: Client, data: bytes, reader: asyncio.StreamReader, to_server: asyncio.StreamWriter
    ) -> None:
        """Pass on what the client sends, until either side ends."""
        free = FREE_BYTES
        try:
            while data and not to_server.is_closing():  # uvloop's would raise
                if not client.authenticated.is_set():
                    await self._wait_for_share(client, max(0, len(data) - free))
                    free = max(0, free - len(data))
                to_server.write(data)
                await to_server.drain()
                data = await reader.read(CHUNK)
        finally:
            to_server.close()

    async def _wait_for_share(self, client: Client, size: int) -> None:
        wait = self._bytes.wait(size, time.monotonic()) if size else 0.0
        if wait > LONGEST_WAIT:
            self.listener.drop(client, "flood", "connections send too much before they authenticate")
            raise ConnectionAbortedError
        self._bytes.spend(size)
        if wait:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await client.authenticated.wait()


def _abort(writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(AttributeError):  # asyncio's own transport, when it was closed and has ended
        writer.transport.abort()


class _Protocol(asyncio.StreamReaderProtocol):
    def eof_received(self) -> bool:
        super().eof_received()
        return False  # close: HTTP/2 has no use for a half-closed connection, and the client has left


async def _open(sock: socket.socket) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    loop = asyncio.get_running_loop()
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    reader = asyncio.StreamReader(CHUNK, loop)
    transport, protocol = await loop.connect_accepted_socket(lambda: _Protocol(reader, loop=loop), sock)
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)
