"""Reading a body when a pacer says, with a tap that takes some of it: nothing is lost, repeated or out of order."""

import asyncio
import itertools
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence

import httpx2
import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.harness.scripted import CHUNKED, END, OK, Part, Server, chunk, listening
from tests.harness.waiting import until
from worker.wire.connection import BODY, UNREAD, Connection, Origin, Transport
from worker.wire.pacer import Pacer

INTERVAL = 0.005
SOON = 5.0


class Reader:
    """Reads a response as a model's stream is read, and notes what came by which way."""

    def __init__(self, connection: Connection, accept: Callable[[bytes], bool] = lambda _: True) -> None:
        self.connection = connection
        self.accept = accept
        self.pacer = Pacer(INTERVAL)
        self.taken: list[bytes] = []
        self.read: list[bytes] = []
        self._all: list[bytes] = []

    @property
    def all(self) -> bytes:
        return b"".join(self._all)

    def tap(self, data: bytes) -> bool:
        if not self.accept(data):
            return False
        self.taken.append(data)
        self._all.append(data)
        return True

    async def first(self) -> None:
        """Read once, and be paced from then on."""
        self.note(await self.connection.read())
        self.connection.pace(self.pacer, self.tap)

    async def rest(self) -> None:
        while data := await self.connection.read():
            self.note(data)

    def note(self, data: bytes) -> None:
        self.read.append(data)
        self._all.append(data)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    async with listening(made.serve) as made.url:
        yield made


@pytest.fixture
async def client() -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(transport=Transport(), timeout=SOON) as made:
        yield made


async def read(
    client: httpx2.AsyncClient,
    server: Server,
    *answer: Part,
    accept: Callable[[bytes], bool] = lambda _: True,
    read: float = SOON,
) -> Reader:
    """Read a whole answer, paced from its first piece on."""
    server.answers.append(list(answer))
    async with client.stream("POST", server.url, timeout=httpx2.Timeout(SOON, read=read)) as response:
        reader = Reader(response.extensions[BODY], accept)
        await reader.first()
        await reader.rest()
    reader.pacer.close()
    return reader


async def test_what_comes_while_the_reader_waits_goes_to_the_tap(client: httpx2.AsyncClient, server: Server) -> None:
    reader = await read(client, server, CHUNKED + chunk(b"a"), chunk(b"b"), chunk(b"c"), END)
    assert reader.read == [b"a"]
    assert b"".join(reader.taken) == b"bc"


async def test_what_the_tap_declines_is_read(client: httpx2.AsyncClient, server: Server) -> None:
    reader = await read(
        client, server, CHUNKED + chunk(b"a"), chunk(b"b"), chunk(b"c"), END, accept=lambda data: b"b" not in data
    )
    assert reader.all == b"abc"
    assert reader.taken == [b"c"]


async def test_what_comes_with_the_end_is_read(client: httpx2.AsyncClient, server: Server) -> None:
    """The task must run anyway, and must not see the end before it."""
    reader = await read(client, server, CHUNKED + chunk(b"a"), chunk(b"b") + END)
    assert (reader.read, reader.taken) == ([b"a", b"b"], [])


async def test_a_connection_is_free_for_the_next_request_after_a_paced_body(
    client: httpx2.AsyncClient, server: Server
) -> None:
    for _ in range(3):
        reader = await read(client, server, CHUNKED + chunk(b"a"), chunk(b"b"), END)
        assert reader.all == b"ab"
    assert server.connections == 1


async def test_a_paced_body_may_end_with_its_connection(client: httpx2.AsyncClient, server: Server) -> None:
    reader = await read(client, server, OK + b"\r\na", b"b", None)
    assert reader.all == b"ab"


async def test_a_paced_body_that_breaks_off_is_an_error_after_what_came(
    client: httpx2.AsyncClient, server: Server
) -> None:
    with pytest.raises(httpx2.ReadError):
        await read(client, server, CHUNKED + chunk(b"a"), chunk(b"b"), None)


async def test_a_paced_body_that_is_no_http_is_an_error(client: httpx2.AsyncClient, server: Server) -> None:
    with pytest.raises(httpx2.RemoteProtocolError):
        await read(client, server, CHUNKED + chunk(b"a"), chunk(b"b"), b"zz\r\n")


async def test_silence_beyond_the_read_timeout_is_an_error_while_paced_too(
    client: httpx2.AsyncClient, server: Server
) -> None:
    with pytest.raises(httpx2.ReadTimeout):
        await read(client, server, CHUNKED + chunk(b"a"), chunk(b"b"), asyncio.Event(), read=0.1)


async def test_what_the_tap_takes_is_no_silence(client: httpx2.AsyncClient, server: Server) -> None:
    reader = await read(client, server, CHUNKED, *[chunk(b"a")] * 40, END, read=0.2)
    assert reader.all == 40 * b"a"


async def test_a_paced_body_that_is_not_wanted_any_more_closes_its_connection(
    client: httpx2.AsyncClient, server: Server
) -> None:
    server.answers.append([CHUNKED + chunk(b"a")])
    async with client.stream("POST", server.url) as response:
        reader = Reader(response.extensions[BODY])
        await reader.first()
    await server.closed.wait()
    reader.pacer.close()


async def test_what_the_tap_raises_the_reader_gets(client: httpx2.AsyncClient, server: Server) -> None:
    def accept(data: bytes) -> bool:
        raise LookupError

    with pytest.raises(LookupError):
        await read(client, server, CHUNKED + chunk(b"a"), chunk(b"b"), END, accept=accept)


async def test_a_reader_that_is_cancelled_has_lost_nothing(client: httpx2.AsyncClient, server: Server) -> None:
    go_on = asyncio.Event()
    server.answers.append([CHUNKED + chunk(b"a"), go_on, chunk(b"b"), END])
    async with client.stream("POST", server.url) as response:
        reader = Reader(response.extensions[BODY])
        await reader.first()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await reader.rest()
        go_on.set()
        await until(lambda: reader.connection._chunks)
        assert reader.taken == []  # nobody waits for it
        await reader.rest()
    assert reader.all == b"ab"


async def test_a_tap_is_asked_for_nothing_while_nobody_reads_and_the_sender_waits(
    client: httpx2.AsyncClient, server: Server
) -> None:
    size = 4
    server.answers.append([CHUNKED + chunk(b"a"), *[chunk(bytes(1024 * 1024))] * size, END])
    async with client.stream("POST", server.url) as response:
        reader = Reader(response.extensions[BODY])
        await reader.first()
        await until(lambda: reader.connection._unread > UNREAD)
        await asyncio.sleep(0.1)
        assert reader.connection._unread < 3 * UNREAD
        assert reader.taken == []
        await reader.rest()
    assert len(reader.all) == 1 + size * 1024 * 1024


# ------------------------------------------------------------ cut anywhere


def cut(data: bytes, sizes: Sequence[int]) -> Iterator[bytes]:
    """``data`` in pieces of these sizes, over and over."""
    for size in itertools.cycle(sizes):
        if not data:
            return
        yield data[:size]
        data = data[size:]


async def exchange(wire: bytes, sizes: Sequence[int], accepts: Sequence[bool], pauses: Sequence[bool]) -> Reader:
    """Read ``wire``, sent in pieces of these sizes, with some pauses, by a tap that accepts some."""
    loop = asyncio.get_running_loop()
    near, far = socket.socketpair()
    near.setblocking(False)
    far.setblocking(False)
    turns = itertools.cycle(accepts)
    reader = Reader(Connection(Origin(False, "a", 80, "a"), near), lambda _: next(turns))

    async def answer() -> None:
        await loop.sock_recv(far, 1024)
        for piece, pause in zip(cut(wire, sizes), itertools.cycle(pauses), strict=False):
            await loop.sock_sendall(far, piece)
            await asyncio.sleep(INTERVAL if pause else 0)

    with far:
        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            group.create_task(answer())
            await reader.connection.ask(b"GET / HTTP/1.1\r\n\r\n", SOON)
            await reader.first()
            await reader.rest()
        assert reader.connection.finish()
        assert not reader.pacer._reads
        reader.pacer.close()
        reader.connection.close()
    return reader


def on(factory: Callable[[], asyncio.AbstractEventLoop], life: Coroutine[object, object, Reader]) -> Reader:
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(life)


@pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvloop.new_event_loop])
@given(
    parts=st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=12),
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=6),
    accepts=st.lists(st.booleans(), min_size=1, max_size=5),
    pauses=st.lists(st.booleans(), min_size=1, max_size=5),
    chunked=st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_a_body_is_whole_and_in_order_wherever_it_is_cut_and_whoever_takes_it(
    factory: Callable[[], asyncio.AbstractEventLoop],
    parts: list[bytes],
    sizes: list[int],
    accepts: list[bool],
    pauses: list[bool],
    chunked: bool,
) -> None:
    body = b"".join(parts)
    wire = CHUNKED + b"".join(map(chunk, parts)) + END
    if not chunked:
        wire = OK + b"content-length: %d\r\n\r\n" % len(body) + body
    assert on(factory, exchange(wire, sizes, accepts, pauses)).all == body
