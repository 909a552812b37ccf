"""Connections to the gateway that are held, dripped on, flooded or left."""

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Awaitable, Callable

import grpc

from tests.harness.chat import JSON, PATH, body_of
from tests.harness.http import Connection
from tests.schedule import Schedule
from tests.security.attacks import Subject, Target

ATTACKS = Subject("clients")

MIB = 1024 * 1024
BODY = 8 * MIB
HELD = 100
HEALTH = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"
LASTS = 20.0
"""Seconds that one strike holds on, if the gateway lets it and the attack does not end before."""


class Raw:
    """A connection on which any bytes are sent; what comes is read and forgotten."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._drain = asyncio.create_task(self._read(reader))

    async def _read(self, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(ConnectionError):
            while await reader.read(65536):
                pass

    async def send(self, data: bytes) -> None:
        """Send all of it. Raises ``ConnectionError`` once the other side has hung up."""
        if self._drain.done():
            raise ConnectionResetError
        self._writer.write(data)
        await self._writer.drain()

    async def flood(self, piece: bytes, seconds: float = LASTS) -> None:
        """Send the piece again and again."""
        async with _lasting(seconds):
            while True:
                await self.send(piece)
                await asyncio.sleep(0)

    async def drip(self, piece: bytes, every: float, seconds: float = LASTS) -> None:
        """Send the piece now and then."""
        async with _lasting(seconds):
            while True:
                await self.send(piece)
                await asyncio.sleep(every)

    async def closed(self) -> None:
        """Until the other side has hung up."""
        await self._drain

    def abort(self) -> None:
        self._drain.cancel()
        self._writer.transport.abort()


@contextlib.asynccontextmanager
async def _lasting(seconds: float) -> AsyncIterator[None]:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            yield


@contextlib.asynccontextmanager
async def raw(address: tuple[str, int]) -> AsyncIterator[Raw]:
    """A connection that is reset at the end."""
    connection = Raw(*await asyncio.open_connection(*address))
    try:
        yield connection
    finally:
        connection.abort()


def head(path: str, *fields: str, method: str = "POST") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "host: x", *fields, "", ""]).encode()


async def side_by_side(count: int, one: Callable[[], Awaitable[None]]) -> None:
    """The same so many times at once; those that are refused end alone."""

    async def tolerant() -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, grpc.RpcError):
            await one()

    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(tolerant())


@ATTACKS
async def held_bodies(target: Target) -> None:
    """All but the last byte of a body, by many clients at once."""
    begin = b'{"messages":[{"source":"user","content":"'
    body = begin + b"a" * (BODY - 1 - len(begin))

    async def hold() -> None:
        async with raw(target.gateway) as connection:
            await connection.send(head(PATH, f"content-length: {BODY}"))
            for at in range(0, len(body), MIB):
                await connection.send(body[at : at + MIB])
            await connection.closed()

    await side_by_side(HELD, hold)


@ATTACKS
async def refused_bodies(target: Target) -> None:
    """Bodies that are refused at once, on connections that stay."""

    async def stay() -> None:
        async with raw(target.gateway) as connection:
            await connection.send(head("/nowhere", f"content-length: {BODY}") + b"a" * 250_000)
            await connection.closed()

    await side_by_side(1000, stay)


@ATTACKS
async def held_chunks(target: Target) -> None:
    """The same in chunks of a byte, whose framing is five times as long as what it frames."""
    await _chunks(target, b"1\r\na\r\n", 4)


@ATTACKS
async def small_chunks(target: Target) -> None:
    """Bodies in chunks of five bytes, whose framing is no longer than what it frames."""
    await _chunks(target, b"5\r\n     \r\n", 20)


async def _chunks(target: Target, chunk: bytes, clients: int) -> None:
    async def hold() -> None:
        async with raw(target.gateway) as connection:
            await connection.send(head(PATH, "transfer-encoding: chunked"))
            await connection.flood(chunk * 2000)

    await side_by_side(clients, hold)


@ATTACKS
async def endless_trailer(target: Target) -> None:
    async with raw(target.gateway) as connection:
        await connection.send(head("/nowhere", "transfer-encoding: chunked") + b"0\r\nx: ")
        await connection.flood(b"a" * 65536)


@ATTACKS
async def many_trailers(target: Target) -> None:
    async with raw(target.gateway) as connection:
        await connection.send(head(PATH, "transfer-encoding: chunked") + b"0\r\n")
        await connection.flood(b"x-a: b\r\n" * 1000)


@ATTACKS
async def endless_extension(target: Target) -> None:
    """Of a chunk's size line."""
    async with raw(target.gateway) as connection:
        await connection.send(head(PATH, "transfer-encoding: chunked") + b"1;")
        await connection.flood(b"a" * 65536)


@ATTACKS
async def endless_header(target: Target) -> None:
    async with raw(target.gateway) as connection:
        await connection.send(b"GET /healthz HTTP/1.1\r\nhost: x\r\nx: ")
        await connection.flood(b"a" * 65536)


@ATTACKS
async def idle_states(target: Target) -> None:
    """Connections left in states that have no obvious end, two hundred of each."""
    begun = [
        b"",
        b"GET / HTTP/1.1\r\nx: ",
        HEALTH + b"\r\n",
        head(PATH, "content-length: 10") + b"{",
        head("/nowhere", "content-length: 100000") + b"x",
        head("/nowhere", "transfer-encoding: chunked") + b"0\r\nx: a",
        head("/healthz", "connection: upgrade", "upgrade: x", method="GET") + b"\r\n",
    ]

    async def hold(data: bytes) -> None:
        async with raw(target.gateway) as connection:
            await connection.send(data)
            await connection.closed()

    async with asyncio.TaskGroup() as group:
        for data in begun:
            group.create_task(side_by_side(200, functools.partial(hold, data)))


@ATTACKS
async def pipelined_behind_a_stream(target: Target) -> None:
    """Requests without end on a connection whose first answer is still being given."""
    async with raw(target.gateway) as connection:
        body = body_of(Schedule(tokens=100, delay=0.05))
        await connection.send(head(PATH, "content-type: application/json", f"content-length: {len(body)}") + body)
        await connection.flood(HEALTH * 500)


@ATTACKS
async def garbage_behind_a_stream(target: Target) -> None:
    async with raw(target.gateway) as connection:
        body = body_of(Schedule(tokens=10, delay=0.02))
        await connection.send(head(PATH, "content-type: application/json", f"content-length: {len(body)}") + body)
        await connection.send(HEALTH + b"\0garbage\r\n\r\n" * 1000)
        await connection.closed()


@ATTACKS
async def pipelined_requests(target: Target) -> None:
    """As many as fit into a connection, all of them good."""
    async with raw(target.gateway) as connection:
        await connection.flood(HEALTH * 1000)


@ATTACKS
async def unread_streams(target: Target) -> None:
    """Clients that ask for much and read nothing."""

    async def ask() -> None:
        async with Connection(target.gateway, limit=1024, receive_buffer=4096) as connection:
            connection.send("POST", PATH, body_of(Schedule(tokens=100_000, size=200)), JSON)
            await asyncio.sleep(LASTS)

    await side_by_side(20, ask)


@ATTACKS
async def leaving_clients(target: Target) -> None:
    """Clients that ask and reset their connection, as fast as they can."""

    async def ask() -> None:
        async with Connection(target.gateway) as connection:
            connection.send("POST", PATH, body_of(Schedule(tokens=50, delay=0.02)), JSON)
            await asyncio.sleep(0.02)
            connection.reset()

    await side_by_side(10, ask)


@ATTACKS
async def upgrades(target: Target) -> None:
    """A request in the body of one that asks for another protocol."""

    async def ask() -> None:
        async with raw(target.gateway) as connection:
            hidden = body_of("hidden")
            body = head(PATH, "content-type: application/json", f"content-length: {len(hidden)}") + hidden
            fields = ("connection: upgrade, http2-settings", "upgrade: h2c", f"content-length: {len(body)}")
            await connection.send(head(PATH, *fields))
            await asyncio.sleep(0.02)
            await connection.send(body)
            await asyncio.sleep(0.1)

    await side_by_side(10, ask)
