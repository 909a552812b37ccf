"""The proxy that fault tests break connections with."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.harness.http import Address
from tests.harness.ports import free_port
from tests.harness.waiting import SOON, eventually
from tests.proxy import Ends, Proxy, ending


@contextlib.asynccontextmanager
async def echo_server() -> AsyncIterator[Address]:
    served: list[asyncio.Task[None]] = []

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with ending(writer):
            with contextlib.suppress(ConnectionError):
                while piece := await reader.read(65536):
                    writer.write(piece)
                    await writer.drain()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.append(asyncio.create_task(echo(reader, writer)))

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[:2]
    await asyncio.wait_for(asyncio.gather(*served), SOON)


@pytest.fixture
async def proxy() -> AsyncIterator[Proxy]:
    async with echo_server() as address:
        with Proxy(address) as proxy:
            yield proxy


@contextlib.asynccontextmanager
async def dial(proxy: Proxy) -> AsyncIterator[Ends]:
    reader, writer = await asyncio.open_connection(*proxy.address)
    async with ending(writer):
        yield reader, writer


async def said_back(ends: Ends, word: bytes) -> bytes:
    ends[1].write(word)
    return await asyncio.wait_for(ends[0].readexactly(len(word)), SOON)


async def read_one(proxy: Proxy) -> bytes:
    async with dial(proxy) as (reader, _):
        return await asyncio.wait_for(reader.read(1), SOON)


@contextlib.contextmanager
def nothing_comes() -> Iterator[None]:
    with pytest.raises(TimeoutError):
        yield


async def test_it_passes_bytes_both_ways(proxy: Proxy) -> None:
    async with dial(proxy) as ends:
        assert await said_back(ends, b"x" * 300_000) == b"x" * 300_000


async def test_an_end_passes_through(proxy: Proxy) -> None:
    async with dial(proxy) as (reader, writer):
        writer.write_eof()
        assert await asyncio.wait_for(reader.read(), SOON) == b""
    await eventually(lambda: proxy.connections == 0)


async def test_what_it_holds_back_comes_once_it_flows(proxy: Proxy) -> None:
    async with dial(proxy) as ends:
        assert await said_back(ends, b"before") == b"before"
        proxy.hold("down")
        ends[1].write(b"held")
        with nothing_comes():
            await asyncio.wait_for(ends[0].read(1), 0.2)
        assert proxy.connections == 1
        proxy.flow()
        assert await asyncio.wait_for(ends[0].readexactly(4), SOON) == b"held"


async def test_a_severed_connection_is_reset_and_the_next_passes(proxy: Proxy) -> None:
    async with dial(proxy) as ends:
        assert await said_back(ends, b"before") == b"before"
        proxy.sever()
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(ends[0].read(1), SOON)
    async with dial(proxy) as ends:
        assert await said_back(ends, b"after") == b"after"


async def test_it_delays_and_keeps_the_order(proxy: Proxy) -> None:
    proxy.delay(0.1)
    async with dial(proxy) as ends:
        before = time.monotonic()
        assert await said_back(ends, bytes(range(256)) * 1000) == bytes(range(256)) * 1000
        assert time.monotonic() - before >= 0.2


async def test_it_refuses_until_it_flows(proxy: Proxy) -> None:
    proxy.refuse()
    with pytest.raises(ConnectionResetError):
        await read_one(proxy)
    proxy.flow()
    async with dial(proxy) as ends:
        assert await said_back(ends, b"again") == b"again"


async def test_a_target_that_is_away_resets_who_dials() -> None:
    with Proxy(("127.0.0.1", free_port())) as proxy, pytest.raises(ConnectionResetError):
        await read_one(proxy)
