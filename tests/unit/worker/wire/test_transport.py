"""Our HTTP/1.1 transport against a server that sends exactly what a test says."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import httpx2
import pytest

from tests.harness.scripted import CHUNKED, END, OK, Handler, Part, Server, chunk, length_of, listening, read_request
from tests.harness.waiting import until
from tests.unit.worker.wire.consumer import Kept
from worker.wire.pacer import Pacer
from worker.wire.transport import BODY, UNREAD, Body, Transport

LARGE = 8 * 1024 * 1024
"""Bytes that the system's buffers do not hold."""

TRIES = 10
"""A machine may stand still for longer than a timeout of a test, but not each time."""

BOTH_LOOPS = pytest.mark.both_loops
"""What waits until a socket can be written or read: loops differ in that."""


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    made.pause = 0.002
    async with asyncio.timeout(20), listening(made.serve) as address:
        made.url = f"{address}/v1/x?y=1"
        yield made


@pytest.fixture
def transport() -> Transport:
    return Transport(tail=3.0)


@pytest.fixture
async def client(transport: Transport) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(transport=transport, timeout=5) as made:
        yield made


async def post(client: httpx2.AsyncClient, server: Server, *answer: Part, read: float = 5.0) -> httpx2.Response:
    server.answers.append(list(answer))
    return await client.post(server.url, json={"a": 1}, timeout=httpx2.Timeout(5, read=read))


@pytest.mark.parametrize(
    "answer",
    [
        [OK + b"content-length: 6\r\n\r\nabc", b"def"],
        [CHUNKED + b"3\r\nab", b"c\r\n", b"3\r\ndef\r\n0\r\n\r\n"],
        [b"HTTP/1.1 100 Continue\r\n\r\n", CHUNKED, b"6\r\nabcdef\r\n0\r\nx-late: 1\r\n\r\n"],
        [OK + b"connection: close\r\n\r\nabc", b"def", None],
    ],
)
async def test_a_body_comes_whole_however_its_end_is_told(
    client: httpx2.AsyncClient, server: Server, answer: list[Part]
) -> None:
    response = await post(client, server, *answer)
    assert (response.status_code, response.content) == (200, b"abcdef")
    assert "x-late" not in response.headers
    assert server.requests[0].startswith(b"POST /v1/x?y=1 HTTP/1.1\r\n")
    assert server.requests[0].endswith(b'{"a":1}')


@BOTH_LOOPS
async def test_a_connection_takes_one_request_after_the_other(client: httpx2.AsyncClient, server: Server) -> None:
    for number in range(3):
        response = await post(client, server, OK + b"x-n: %d\r\ncontent-length: 1\r\n\r\na" % number)
        assert response.headers["x-n"] == str(number)
    assert server.connections == 1


async def test_a_connection_that_the_server_closed_is_not_used_again(
    client: httpx2.AsyncClient, server: Server, transport: Transport
) -> None:
    await post(client, server, OK + b"content-length: 1\r\n\r\na", None)
    ((connection, _),) = next(iter(transport._idle.values())).items()
    await until(lambda: not connection.is_open)
    await post(client, server, OK + b"content-length: 1\r\n\r\na")
    assert server.connections == 2


@pytest.mark.parametrize("answer", [[None], [CHUNKED + b"3\r\nab", None], [OK + b"content-length: 3\r\n\r\nab", None]])
async def test_an_answer_that_breaks_off_is_an_error(
    client: httpx2.AsyncClient, server: Server, answer: list[Part]
) -> None:
    with pytest.raises(httpx2.ReadError):
        await post(client, server, *answer)


@pytest.mark.parametrize("answer", [b"what?\r\n\r\n", CHUNKED + b"zz\r\n"])
async def test_what_is_no_http_is_an_error(client: httpx2.AsyncClient, server: Server, answer: bytes) -> None:
    with pytest.raises(httpx2.RemoteProtocolError):
        await post(client, server, answer)


@pytest.mark.parametrize("answer", [[], [CHUNKED + b"1\r\na\r\n"]])
async def test_silence_beyond_the_read_timeout_is_an_error(
    client: httpx2.AsyncClient, server: Server, answer: list[Part]
) -> None:
    with pytest.raises(httpx2.ReadTimeout):
        await post(client, server, *answer, read=0.1)


async def test_nobody_there_is_an_error(client: httpx2.AsyncClient) -> None:
    with pytest.raises(httpx2.ConnectError):
        await client.get("http://127.0.0.1:1/")


@BOTH_LOOPS
async def test_a_body_that_is_not_wanted_any_more_closes_its_connection(
    client: httpx2.AsyncClient, server: Server
) -> None:
    server.answers.append([CHUNKED + b"1\r\na\r\n"])
    async with client.stream("POST", server.url) as response:
        body: Body = response.extensions[BODY]
        assert await Kept(body).some() == b"a"
    await server.closed.wait()
    body.resume_reading()  # too late, and harmless
    body.pause_reading()
    body.content_ended()


@pytest.mark.parametrize("paced", [False, True])
async def test_a_connection_is_kept_when_the_response_ends_after_its_content(
    client: httpx2.AsyncClient, server: Server, transport: Transport, paced: bool
) -> None:
    end = asyncio.Event()
    pacer = Pacer(0.005)
    await end_content(client, server, pacer if paced else None, end, END)
    assert not any(transport._idle.values())
    pacer.close()
    end.set()
    await until(lambda: any(transport._idle.values()))
    await post(client, server, OK + b"content-length: 0\r\n\r\n")
    assert server.connections == 1
    assert not transport._ending


@pytest.mark.parametrize("last", [[], [chunk(b"more") + END], [b"zz\r\n"], [None]])
async def test_a_connection_is_closed_when_the_response_does_not_end_after_its_content(
    client: httpx2.AsyncClient, server: Server, transport: Transport, last: list[Part]
) -> None:
    await end_content(client, server, None, *last, asyncio.Event())
    await until(lambda: not transport._ending)
    assert not any(transport._idle.values())
    await post(client, server, OK + b"content-length: 0\r\n\r\n")
    assert server.connections == 2


async def test_nothing_is_open_when_the_transport_is_closed_before_a_bodys_end(
    client: httpx2.AsyncClient, server: Server, transport: Transport
) -> None:
    await end_content(client, server, None, asyncio.Event())
    (connection,) = transport._ending
    await transport.aclose()
    assert not transport._ending
    assert not connection.is_open


async def test_a_kept_connection_is_closed_after_a_while(client: httpx2.AsyncClient, server: Server) -> None:
    async with httpx2.AsyncClient(transport=Transport(idle=0.05)) as short:
        await post(short, server, OK + b"content-length: 0\r\n\r\n")
        await server.closed.wait()
        await post(short, server, OK + b"content-length: 0\r\n\r\n")
    assert server.connections == 2


async def end_content(client: httpx2.AsyncClient, server: Server, pacer: Pacer | None, *rest: Part) -> None:
    """Read a response whose content says where it ends, before ``rest``."""
    server.answers.append([CHUNKED + chunk(b"all"), *rest])
    async with client.stream("POST", server.url) as response:
        body: Body = response.extensions[BODY]
        assert await Kept(body).some() == b"all"
        if pacer is not None:
            body.pace(pacer)
        body.content_ended()


@BOTH_LOOPS
async def test_a_sender_waits_for_its_reader(client: httpx2.AsyncClient, server: Server) -> None:
    size = 2 * LARGE
    server.pause = 0.0
    server.answers.append([OK + b"content-length: %d\r\n\r\n" % size, *[bytes(LARGE)] * 2])
    async with client.stream("POST", server.url) as response:
        pieces = response.aiter_raw()
        got = len(await anext(pieces))
        reader = response.stream._stream  # type: ignore[union-attr]
        await until(lambda: reader._connection._unwatch is None)
        await asyncio.sleep(0.02)  # for what must not happen
        assert reader._connection._response.consumer._unread < 2 * UNREAD
        async for piece in pieces:
            got += len(piece)
    assert got == size


async def test_what_comes_after_the_response_is_no_part_of_it(client: httpx2.AsyncClient, server: Server) -> None:
    surplus = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 3\r\n\r\nbye"
    response = await post(client, server, OK + b"content-length: 1\r\n\r\na" + surplus)
    assert (response.status_code, response.content) == (200, b"a")
    assert (await post(client, server, OK + b"content-length: 1\r\n\r\nb")).content == b"b"
    assert server.connections == 2


@BOTH_LOOPS
async def test_a_request_cancelled_as_its_answer_ends_keeps_or_closes_its_connection(
    client: httpx2.AsyncClient, server: Server, transport: Transport
) -> None:
    await post(client, server, OK + b"content-length: 0\r\n\r\n")
    (idle,) = transport._idle.values()
    (connection,) = idle
    asking = asyncio.create_task(post(client, server, OK + b"content-length: 0\r\n\r\n"))
    async with asyncio.timeout(20):
        for state in (False, True):
            while connection._response.is_complete is not state:
                await asyncio.sleep(0)  # a longer pause could miss the whole answer
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert list(idle) == [connection]


async def refuse_unread(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 413 Too Large\r\ncontent-length: 4\r\n\r\nlong")
    await asyncio.Event().wait()


@BOTH_LOOPS
async def test_a_server_may_answer_before_it_has_read_what_it_refuses(client: httpx2.AsyncClient) -> None:
    """The rest of the request is still due on that connection, so the next request takes another one."""
    async with asyncio.timeout(20), listening(refuse_unread) as address:
        for _ in range(2):
            response = await client.post(address, content=bytes(LARGE))
            assert (response.status_code, response.content) == (413, b"long")


async def refuse_and_hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 413 Too Large\r\nconnection: close\r\ncontent-length: 4\r\n\r\nlong")
    await writer.drain()
    writer.write_eof()
    while await reader.read(LARGE):
        pass


@BOTH_LOOPS
async def test_a_refusal_is_read_though_the_server_hangs_up(client: httpx2.AsyncClient) -> None:
    async with asyncio.timeout(20), listening(refuse_and_hang_up) as address:
        response = await client.post(address, content=bytes(LARGE))
    assert (response.status_code, response.content) == (413, b"long")


async def begin_early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    writer.write(CHUNKED)
    await asyncio.sleep(0.05)
    body = await reader.readexactly(length_of(head))
    writer.write(b"8\r\n%08d\r\n0\r\n\r\n" % len(body))
    await asyncio.Event().wait()


@BOTH_LOOPS
async def test_a_request_is_sent_whole_to_a_server_that_begins_its_answer_early(client: httpx2.AsyncClient) -> None:
    async with asyncio.timeout(20), listening(begin_early) as address:
        response = await client.post(address, content=bytes(LARGE))
        assert (response.status_code, response.content) == (200, b"%08d" % LARGE)


async def read_slowly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    left, now = length_of(head), asyncio.get_running_loop().time
    slow_until = now() + 1.5
    while left:
        piece = await reader.read(min(left, LARGE // 32))
        if not piece:
            return  # it was given up
        left -= len(piece)
        if now() < slow_until:  # all that waits in the system's buffers is read fast
            await asyncio.sleep(0.01)
    writer.write(OK + b"content-length: 4\r\n\r\nread")
    await asyncio.Event().wait()


@BOTH_LOOPS
async def test_a_server_that_reads_slowly_is_not_silent(client: httpx2.AsyncClient) -> None:
    async with asyncio.timeout(60), listening(read_slowly) as address:
        for _ in range(TRIES):
            with contextlib.suppress(httpx2.ReadTimeout):
                response = await client.post(address, content=bytes(4 * LARGE), timeout=httpx2.Timeout(5, read=1))
                assert (response.status_code, response.content) == (200, b"read")
                return
    pytest.fail("a server that reads counted as silent each time")


async def begin_and_read_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(CHUNKED + chunk(b"a"))
    await asyncio.Event().wait()


async def read_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


@BOTH_LOOPS
@pytest.mark.parametrize("handler", [begin_and_read_nothing, read_nothing])
async def test_a_server_that_reads_nothing_is_an_error(client: httpx2.AsyncClient, handler: Handler) -> None:
    async with asyncio.timeout(20), listening(handler) as address:
        with pytest.raises(httpx2.ReadTimeout):
            await client.post(address, content=bytes(LARGE), timeout=httpx2.Timeout(5, read=0.1))


async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    writer.transport.abort()


async def test_a_connection_that_is_reset_is_an_error(client: httpx2.AsyncClient) -> None:
    async with asyncio.timeout(20), listening(hang_up) as address:
        with pytest.raises(httpx2.ReadError):
            await client.post(address, content=b"a")
