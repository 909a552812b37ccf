"""A body that is pushed: nothing is lost, repeated or out of order, however it is cut, paced and paused."""

import asyncio
import contextlib
import itertools
import socket
import struct
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence

import httpx2
import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.harness.scripted import CHUNKED, END, OK, Part, Server, chunk, listening
from tests.harness.waiting import until
from tests.unit.worker.wire.consumer import Kept
from worker.wire.connection import READ, Connection, Origin
from worker.wire.pacer import Pacer
from worker.wire.transport import BODY, Body, Transport

INTERVAL = 0.002
SOON = 5.0
TRIES = 10
"""A machine may stand still for longer than a timeout of a test, but not each time."""
pytestmark = pytest.mark.both_loops
PACED = pytest.mark.parametrize("paced", [False, True])


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    made.pause = 2 * INTERVAL
    async with asyncio.timeout(20), listening(made.serve) as made.url:
        yield made


@pytest.fixture
async def client() -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(transport=Transport(), timeout=SOON) as made:
        yield made


@pytest.fixture
async def pacer() -> AsyncIterator[Pacer]:
    made = Pacer(INTERVAL)
    yield made
    assert not made._reads
    made.close()


async def read(
    client: httpx2.AsyncClient, server: Server, pacer: Pacer | None, *answer: Part, read: float = SOON
) -> bytes:
    """Read a whole answer, paced from its first piece on."""
    server.answers.append(list(answer))
    async with client.stream("POST", server.url, timeout=httpx2.Timeout(SOON, read=read)) as response:
        body: Body = response.extensions[BODY]
        kept = Kept(body)
        await kept.some()
        if pacer is not None:
            body.pace(pacer)
        return await kept.whole()


@PACED
@pytest.mark.parametrize(
    "answer",
    [
        [CHUNKED, chunk(b"a"), chunk(b"b"), chunk(b"c"), END],
        [CHUNKED + chunk(b"a"), chunk(b"b"), chunk(b"c") + END],
        [CHUNKED + chunk(b"a") + chunk(b"b") + chunk(b"c") + END],
    ],
)
async def test_a_body_comes_whole_and_its_connection_is_free_again(
    client: httpx2.AsyncClient, server: Server, pacer: Pacer, paced: bool, answer: list[Part]
) -> None:
    for _ in range(3):
        assert await read(client, server, pacer if paced else None, *answer) == b"abc"
    assert server.connections == 1


@PACED
async def test_a_body_may_end_with_its_connection(
    client: httpx2.AsyncClient, server: Server, pacer: Pacer, paced: bool
) -> None:
    assert await read(client, server, pacer if paced else None, OK + b"\r\na", b"b", None) == b"ab"


@PACED
@pytest.mark.parametrize(("last", "error"), [(None, httpx2.ReadError), (b"zz\r\n", httpx2.RemoteProtocolError)])
async def test_what_came_before_an_error_is_delivered(
    client: httpx2.AsyncClient, server: Server, pacer: Pacer, paced: bool, last: Part, error: type[Exception]
) -> None:
    server.answers.append([CHUNKED + chunk(b"a"), chunk(b"b"), last])
    async with client.stream("POST", server.url) as response:
        body: Body = response.extensions[BODY]
        kept = Kept(body)
        if paced:
            body.pace(pacer)
        with pytest.raises(error):
            await kept.whole()
        assert kept.all == b"ab"


@PACED
@pytest.mark.parametrize("size", [1, READ + 1])
async def test_what_came_before_a_reset_is_delivered_however_late_it_is_read(
    pacer: Pacer, paced: bool, size: int
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near, (far, _) = socket.create_connection(listener.getsockname()), listener.accept()
    near.setblocking(False)
    connection, kept = Connection(Origin(False, "a", 80, "a"), near), Kept()
    far.sendall(CHUNKED + chunk(b"a"))
    await connection.ask(b"GET / HTTP/1.1\r\n\r\n", SOON)
    far.sendall(chunk(size * b"b"))
    far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    far.close()
    connection.pace(pacer if paced else None)
    connection.deliver_to(kept)
    async with asyncio.timeout(20):
        with pytest.raises(httpx2.ReadError, match="reset"):
            await kept.whole()
    assert kept.all == b"a" + size * b"b"
    connection.close()


@PACED
async def test_silence_beyond_the_read_timeout_is_an_error(
    client: httpx2.AsyncClient, server: Server, pacer: Pacer, paced: bool
) -> None:
    with pytest.raises(httpx2.ReadTimeout):
        await read(
            client, server, pacer if paced else None, CHUNKED + chunk(b"a"), chunk(b"b"), asyncio.Event(), read=0.1
        )


async def test_what_is_delivered_is_no_silence(client: httpx2.AsyncClient, server: Server, pacer: Pacer) -> None:
    pieces = [CHUNKED + chunk(b"a"), *[chunk(b"a")] * 149, END]
    for _ in range(TRIES):
        with contextlib.suppress(httpx2.ReadTimeout):
            assert await read(client, server, pacer, *pieces, read=0.4) == 150 * b"a"
            return
    pytest.fail("what was delivered counted as silence each time")


@PACED
async def test_silence_does_not_count_while_reading_is_paused(
    client: httpx2.AsyncClient, server: Server, pacer: Pacer, paced: bool
) -> None:
    for _ in range(TRIES):
        go_on = asyncio.Event()
        server.answers.append([CHUNKED + chunk(b"a"), go_on, chunk(b"b"), END])
        with contextlib.suppress(httpx2.ReadTimeout):
            async with client.stream("POST", server.url, timeout=httpx2.Timeout(SOON, read=0.4)) as response:
                body: Body = response.extensions[BODY]
                kept = Kept(body)
                await kept.some()
                if paced:
                    body.pace(pacer)
                body.pause_reading()
                await asyncio.sleep(0.5)  # longer than the timeout
                body.resume_reading()
                go_on.set()
                assert await kept.whole() == b"ab"
                return
    pytest.fail("silence while reading was paused counted each time")


@PACED
async def test_nothing_is_delivered_while_reading_is_paused(
    client: httpx2.AsyncClient, server: Server, pacer: Pacer, paced: bool
) -> None:
    server.answers.append([CHUNKED + chunk(b"a"), *[chunk(bytes(256 * 1024))] * 4, END])
    server.pause = 0.0
    async with client.stream("POST", server.url) as response:
        body: Body = response.extensions[BODY]
        kept = Kept(body)
        if paced:
            body.pace(pacer)
        await kept.some(2)
        body.pause_reading()
        size = len(kept.all)
        await asyncio.sleep(10 * INTERVAL)  # for what must not happen
        assert len(kept.all) == size
        body.resume_reading()
        assert len(await kept.whole()) == 1 + 1024 * 1024
        assert max(map(len, kept.pieces)) <= READ


async def test_a_paced_body_that_is_abandoned_closes_its_connection(
    client: httpx2.AsyncClient, server: Server, pacer: Pacer
) -> None:
    server.answers.append([CHUNKED + chunk(b"a")])
    async with client.stream("POST", server.url) as response:
        body: Body = response.extensions[BODY]
        await Kept(body).some()
        body.pace(pacer)
    await server.closed.wait()


# ------------------------------------------------------------ cut anywhere


def cut(data: bytes, sizes: Sequence[int]) -> Iterator[bytes]:
    """``data`` in pieces of these sizes, over and over."""
    for size in itertools.cycle(sizes):
        if not data:
            return
        yield data[:size]
        data = data[size:]


async def exchange(wire: bytes, sizes: Sequence[int], pauses: Sequence[bool], rests: Sequence[bool]) -> bytes:
    """Read ``wire``, sent in pieces of these sizes with some pauses, by a consumer that sometimes rests."""
    loop = asyncio.get_running_loop()
    near, far = socket.socketpair()
    near.setblocking(False)
    far.setblocking(False)
    connection = Connection(Origin(False, "a", 80, "a"), near)
    pacer = Pacer(INTERVAL)
    turns = itertools.cycle(rests)

    class Resting(Kept):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            connection.pace(pacer)
            if next(turns):
                connection.pause_reading()
                loop.call_later(INTERVAL / 2, connection.resume_reading)

    async def answer() -> None:
        await loop.sock_recv(far, 1024)
        for piece, pause in zip(cut(wire, sizes), itertools.cycle(pauses), strict=False):
            await loop.sock_sendall(far, piece)
            await asyncio.sleep(INTERVAL if pause else 0)

    kept = Resting()
    with far:
        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            group.create_task(answer())
            await connection.ask(b"GET / HTTP/1.1\r\n\r\n", SOON)
            connection.deliver_to(kept)
            await kept.whole()
        assert connection.release()
        assert not pacer._reads
        pacer.close()
        connection.close()
    return kept.all


def on(factory: Callable[[], asyncio.AbstractEventLoop], life: Coroutine[object, object, bytes]) -> bytes:
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(life)


@pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvloop.new_event_loop])
@given(
    parts=st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=12),
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=6),
    pauses=st.lists(st.booleans(), min_size=1, max_size=5),
    rests=st.lists(st.booleans(), min_size=1, max_size=5),
    chunked=st.booleans(),
)
@settings(max_examples=25)
def test_a_body_is_whole_and_in_order_wherever_it_is_cut(
    factory: Callable[[], asyncio.AbstractEventLoop],
    parts: list[bytes],
    sizes: list[int],
    pauses: list[bool],
    rests: list[bool],
    chunked: bool,
) -> None:
    body = b"".join(parts)
    wire = CHUNKED + b"".join(map(chunk, parts)) + END
    if not chunked:
        wire = OK + b"content-length: %d\r\n\r\n" % len(body) + body
    assert on(factory, exchange(wire, sizes, pauses, rests)) == body


async def test_what_is_read_at_once_is_bounded(client: httpx2.AsyncClient, server: Server) -> None:
    """A consumer decodes all of it in one turn of the loop."""
    server.answers.append([OK + b"content-length: %d\r\n\r\n" % (1024 * 1024), bytes(1024 * 1024)])
    async with client.stream("POST", server.url) as response:
        kept = Kept(response.extensions[BODY])
        await until(lambda: kept.ended)
    assert max(map(len, kept.pieces)) <= READ
