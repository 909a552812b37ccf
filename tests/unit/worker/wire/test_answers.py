"""What a worker takes from a model's server that sends what it likes: it ends, costs little, and goes nowhere else."""

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator, Callable

import httpx2
import openai
import pytest

from tests.harness.scripted import CHUNKED, END, OK, Part, Server, chunk, listening, read_request
from worker.contract.errors import BadAnswer
from worker.wire.answers import ERROR_BYTES, FREE, Bounded, bound
from worker.wire.connection import READ
from worker.wire.proxied import Proxied
from worker.wire.transport import BODY, Transport

EVENT = b'data: {"choices": [{"delta": {"content": "a"}}]}\n\n'


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    made.pause = 0.0
    async with asyncio.timeout(20), listening(made.serve) as made.url:
        yield made


def ours() -> httpx2.AsyncClient:
    client = httpx2.AsyncClient(transport=Transport(), follow_redirects=True, timeout=5)
    bound(client, lambda inner: Bounded(inner, lines=True))
    return client


def through_aiohttp() -> httpx2.AsyncClient:
    client: httpx2.AsyncClient = openai.DefaultAioHttpClient(timeout=5)
    bound(client, lambda inner: Bounded(Proxied(inner), lines=True))
    return client


@pytest.fixture(params=[ours, through_aiohttp])
async def client(request: pytest.FixtureRequest) -> AsyncIterator[httpx2.AsyncClient]:
    make: Callable[[], httpx2.AsyncClient] = request.param
    async with make() as made:
        yield made


async def post(client: httpx2.AsyncClient, server: Server, *answer: Part) -> httpx2.Response:
    server.answers.append(list(answer))
    return await client.post(f"{server.url}/v1/chat", json={"a": 1})


def endless(head: bytes, piece: bytes) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], object]:
    """A server that sends ``piece`` until its client closes the connection."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(head)
        while not writer.transport.is_closing():
            writer.write(piece)
            await writer.drain()

    return serve


ENDLESS = {
    "headers": (OK, b"x: 1\r\n" * 1000),
    "a header": (OK + b"x: ", b"a" * 65536),
    "a status line": (b"HTTP/1.1 200 ", b"a" * 65536),
    "interim responses": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000),
    "headers of an interim response": (b"HTTP/1.1 103 E\r\n", b"x: 1\r\n" * 1000),
    "a trailer": (CHUNKED + chunk(b"a") + b"0\r\nx: ", b"a" * 65536),
    "trailers": (CHUNKED + chunk(b"a") + b"0\r\n", b"x: 1\r\n" * 1000),
    "a chunk's extension": (CHUNKED + b"1;", b"a" * 65536),
    "a line": (OK + b"\r\n", b"a" * 65536),
    "an event": (OK + b"content-type: text/event-stream\r\n\r\n", b"data: a\n" * 8000),
    "comments": (OK + b"content-type: text/event-stream\r\n\r\n", b": a\n" * 8000),
}


@pytest.mark.parametrize("name", ENDLESS)
async def test_what_never_ends_is_an_error_that_names_the_bound(name: str) -> None:
    head, piece = ENDLESS[name]
    async with asyncio.timeout(20), ours() as client, listening(endless(head, piece)) as url:  # type: ignore[arg-type]
        with pytest.raises(BadAnswer, match=r"the model's server sent .*[0-9]+"):
            await client.post(url, json={})


@pytest.mark.parametrize("name", ["headers", "a header", "a status line", "a line", "an event"])
async def test_the_same_through_aiohttp_is_an_error(name: str) -> None:
    head, piece = ENDLESS[name]
    async with asyncio.timeout(20), through_aiohttp() as client, listening(endless(head, piece)) as url:  # type: ignore[arg-type]
        with pytest.raises(httpx2.RemoteProtocolError):
            await client.post(url, json={})


@pytest.mark.parametrize(
    "answer",
    [
        OK + b"x: y\r\n" * 200 + b"content-length: 0\r\n\r\n",
        b"HTTP/1.1 103 E\r\nlink: a\r\n\r\n" * 1000 + CHUNKED + END,
    ],
)
async def test_what_servers_send_is_far_below_the_bounds(server: Server, answer: bytes) -> None:
    async with ours() as client:
        assert (await post(client, server, answer)).status_code == 200


async def test_a_long_body_in_short_chunks_is_no_endless_framing(server: Server) -> None:
    async with ours() as client:
        response = await post(client, server, CHUNKED + chunk(b"\n") * 100_000 + END)
        assert response.content == b"\n" * 100_000


# ------------------------------------------------------------ answers that are no success


@pytest.mark.parametrize("status", [400, 500, 999])
async def test_of_an_error_as_much_is_read_as_is_of_use(status: int) -> None:
    head = b"HTTP/1.1 %d X\r\n\r\n" % status
    for make in (ours, through_aiohttp):
        async with asyncio.timeout(20), make() as client, listening(endless(head, b"a" * 65536)) as url:  # type: ignore[arg-type]
            response = await client.post(url, json={})
            assert (response.status_code, response.content) == (status, b"a" * ERROR_BYTES)


async def test_an_error_that_is_a_bomb_is_read_as_far(client: httpx2.AsyncClient, server: Server) -> None:
    body = gzip.compress(bytes(16 * FREE))
    head = b"HTTP/1.1 429 X\r\nretry-after: 7\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(body)
    response = await post(client, server, head + body)
    assert (response.status_code, response.content) == (429, bytes(ERROR_BYTES))
    assert response.headers["retry-after"] == "7"
    assert "content-encoding" not in response.headers


async def test_an_error_that_does_not_end_is_an_error_soon(server: Server) -> None:
    for transport in (Transport(), Proxied(openai.DefaultAioHttpClient()._transport)):
        async with httpx2.AsyncClient(transport=Bounded(transport, error_time=0.1), timeout=5) as client:
            response = await post(client, server, b"HTTP/1.1 400 X\r\ncontent-length: 9\r\n\r\nno", asyncio.Event())
            assert (response.status_code, response.content) == (400, b"no")


# ------------------------------------------------------------ redirects


def moved(status: int, to: str) -> bytes:
    return b"HTTP/1.1 %d X\r\nlocation: %b\r\ncontent-length: 0\r\n\r\n" % (status, to.encode())


@pytest.mark.parametrize("status", [307, 308])
async def test_a_redirect_within_the_origin_is_followed_with_the_request_as_it_was(
    client: httpx2.AsyncClient, server: Server, status: int
) -> None:
    server.answers.append([moved(status, "/v2/chat?x=1")])
    response = await post(client, server, OK + b"content-length: 1\r\n\r\na")
    assert response.content == b"a"
    first, second = server.requests
    assert second.split(b" ")[1] == b"/v2/chat?x=1"
    assert first.partition(b"\r\n\r\n")[2] == second.partition(b"\r\n\r\n")[2] == b'{"a":1}'


@pytest.mark.parametrize(
    "to", ["http://127.0.0.1:1/v1", "https://127.0.0.1/", "//localhost/", "file:///etc/passwd", "http://["]
)
@pytest.mark.parametrize("status", [302, 307])
async def test_the_request_goes_to_no_other_origin(
    client: httpx2.AsyncClient, server: Server, to: str, status: int
) -> None:
    async with listening(server.serve) as elsewhere:
        for target in (to, f"{elsewhere}/v1/chat"):
            with pytest.raises(BadAnswer, match=f"HTTP {status}"):
                await post(client, server, moved(status, target))
    assert len(server.requests) == 2


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304])
async def test_a_redirect_that_would_change_the_request_is_an_error(
    client: httpx2.AsyncClient, server: Server, status: int
) -> None:
    with pytest.raises(BadAnswer, match=f"HTTP {status}"):
        await post(client, server, moved(status, "/v2/chat"))
    assert len(server.requests) == 1


async def test_a_redirect_is_followed_once(client: httpx2.AsyncClient, server: Server) -> None:
    server.answers.append([moved(307, "/v2/chat")])
    with pytest.raises(BadAnswer, match="more than once"):
        await post(client, server, moved(307, "/v3/chat"))
    assert len(server.requests) == 2


# ------------------------------------------------------------ compression


def compressed(data: bytes, encoding: str = "gzip") -> bytes:
    body = gzip.compress(data) if encoding.endswith("gzip") else zlib.compress(data)
    head = OK + b"content-type: text/event-stream\r\ncontent-encoding: %b\r\ncontent-length: %d\r\n\r\n"
    return head % (encoding.encode(), len(body)) + body


async def test_no_compression_is_asked_for(client: httpx2.AsyncClient, server: Server) -> None:
    await post(client, server, OK + b"content-length: 0\r\n\r\n")
    assert b"\r\naccept-encoding: identity\r\n" in server.requests[0].lower()


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "deflate", "GZip"])
async def test_what_is_compressed_all_the_same_is_decoded(
    client: httpx2.AsyncClient, server: Server, encoding: str
) -> None:
    response = await post(client, server, compressed(EVENT * 5000, encoding))
    assert response.content == EVENT * 5000
    assert BODY not in response.extensions


async def test_a_compressed_answer_that_grows_without_measure_ends_early(
    client: httpx2.AsyncClient, server: Server
) -> None:
    server.answers.append([compressed(b"\n" * 16 * FREE)])
    sizes: list[int] = []
    async with client.stream("POST", server.url, json={}) as response:
        with pytest.raises(BadAnswer, match="compressed more than 100:1"):
            await anext(piece async for piece in note(response.aiter_raw(), sizes) if not piece)
    assert max(sizes) <= READ
    assert sum(sizes) <= FREE


async def note(pieces: AsyncIterator[bytes], sizes: list[int]) -> AsyncIterator[bytes]:
    async for piece in pieces:
        sizes.append(len(piece))
        yield piece


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "nonsense"])
async def test_a_compression_that_was_not_asked_for_is_an_error(
    client: httpx2.AsyncClient, server: Server, encoding: str
) -> None:
    with pytest.raises(BadAnswer, match="not asked for"):
        await post(client, server, OK + b"content-encoding: %b\r\ncontent-length: 1\r\n\r\na" % encoding.encode())


async def test_what_cannot_be_decoded_is_an_error(client: httpx2.AsyncClient, server: Server) -> None:
    with pytest.raises(BadAnswer, match="cannot be decoded"):
        await post(client, server, OK + b"content-encoding: gzip\r\ncontent-length: 9\r\n\r\nnot gzip!")


# ------------------------------------------------------------ connections


async def test_a_kept_connection_that_closes_on_the_request_is_replaced_once(
    client: httpx2.AsyncClient, server: Server
) -> None:
    whole = OK + b"content-length: 1\r\n\r\na"
    await post(client, server, whole)
    server.answers.append([None])
    assert (await post(client, server, whole)).content == b"a"
    server.answers.append([None])
    with pytest.raises(httpx2.TransportError):
        await post(client, server, None)
    assert len(server.requests) == 5, "one more than once"


@pytest.mark.parametrize("answer", [b"what?\r\n\r\n", b"HTTP/1.1 200 OK\r\nx", CHUNKED + b"zz\r\n"])
async def test_a_bad_answer_is_not_asked_for_again(client: httpx2.AsyncClient, server: Server, answer: bytes) -> None:
    await post(client, server, OK + b"content-length: 1\r\n\r\na")
    with pytest.raises(httpx2.TransportError):
        await post(client, server, answer, None)
    assert len(server.requests) == 2
