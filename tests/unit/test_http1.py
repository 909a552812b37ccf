"""Our HTTP/1.1 transport against a server that sends exactly what a test says."""

import asyncio
from collections.abc import AsyncIterator

import httpx2
import pytest

from worker.http1 import BODY, Connection, Transport

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"


class Server:
    """Answers every request with the next of ``answers``, part by part; None closes the connection."""

    def __init__(self) -> None:
        self.answers: list[list[bytes | None]] = []
        self.requests: list[bytes] = []
        self.connections = 0
        self.closed = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
                self.requests.append(head + await reader.readexactly(length))
                for part in self.answers.pop(0):
                    if part is None:
                        return
                    writer.write(part)
                    await writer.drain()
                    await asyncio.sleep(0.01)  # so that the parts arrive one by one
        except (asyncio.IncompleteReadError, ConnectionError):
            self.closed.set()
        finally:
            writer.close()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    listening = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1/x?y=1"  # type: ignore[attr-defined]
    async with asyncio.timeout(20), listening:
        yield made


@pytest.fixture
async def client() -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(transport=Transport(), timeout=5) as made:
        yield made


async def post(client: httpx2.AsyncClient, server: Server, *answer: bytes | None, read: float = 5.0) -> httpx2.Response:
    server.answers.append(list(answer))
    url: str = server.url  # type: ignore[attr-defined]
    return await client.post(url, json={"a": 1}, timeout=httpx2.Timeout(5, read=read))


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
    client: httpx2.AsyncClient, server: Server, answer: list[bytes | None]
) -> None:
    response = await post(client, server, *answer)
    assert (response.status_code, response.content) == (200, b"abcdef")
    assert "x-late" not in response.headers
    assert server.requests[0].startswith(b"POST /v1/x?y=1 HTTP/1.1\r\n")
    assert server.requests[0].endswith(b'{"a":1}')


async def test_a_connection_takes_one_request_after_the_other(client: httpx2.AsyncClient, server: Server) -> None:
    for number in range(3):
        response = await post(client, server, OK + b"x-n: %d\r\ncontent-length: 1\r\n\r\na" % number)
        assert response.headers["x-n"] == str(number)
    assert server.connections == 1


async def test_a_connection_that_the_server_closed_is_not_used_again(
    client: httpx2.AsyncClient, server: Server
) -> None:
    await post(client, server, OK + b"content-length: 1\r\n\r\na", None)
    await asyncio.sleep(0.05)
    await post(client, server, OK + b"content-length: 1\r\n\r\na")
    assert server.connections == 2


@pytest.mark.parametrize("answer", [[None], [CHUNKED + b"3\r\nab", None], [OK + b"content-length: 3\r\n\r\nab", None]])
async def test_an_answer_that_breaks_off_is_an_error(
    client: httpx2.AsyncClient, server: Server, answer: list[bytes | None]
) -> None:
    with pytest.raises(httpx2.ReadError):
        await post(client, server, *answer)


@pytest.mark.parametrize("answer", [b"what?\r\n\r\n", CHUNKED + b"zz\r\n"])
async def test_what_is_no_http_is_an_error(client: httpx2.AsyncClient, server: Server, answer: bytes) -> None:
    with pytest.raises(httpx2.RemoteProtocolError):
        await post(client, server, answer)


@pytest.mark.parametrize("answer", [[], [CHUNKED + b"1\r\na\r\n"]])
async def test_silence_beyond_the_read_timeout_is_an_error(
    client: httpx2.AsyncClient, server: Server, answer: list[bytes]
) -> None:
    with pytest.raises(httpx2.ReadTimeout):
        await post(client, server, *answer, read=0.1)


async def test_nobody_there_is_an_error(client: httpx2.AsyncClient) -> None:
    with pytest.raises(httpx2.ConnectError):
        await client.get("http://127.0.0.1:1/")


async def test_a_body_that_is_not_wanted_any_more_closes_its_connection(
    client: httpx2.AsyncClient, server: Server
) -> None:
    server.answers.append([CHUNKED + b"1\r\na\r\n"])
    url: str = server.url  # type: ignore[attr-defined]
    async with client.stream("POST", url) as response:
        connection: Connection = response.extensions[BODY]
        assert await connection.read() == b"a"
    await server.closed.wait()


async def test_a_sender_waits_for_its_reader(client: httpx2.AsyncClient, server: Server) -> None:
    size = 64 * 1024 * 1024
    server.answers.append([OK + b"content-length: %d\r\n\r\n" % size, *[bytes(1024 * 1024)] * 64])
    url: str = server.url  # type: ignore[attr-defined]
    async with client.stream("POST", url) as response:
        connection: Connection = response.extensions[BODY]
        await asyncio.sleep(0.3)
        assert sum(map(len, connection._chunks)) < 4 * 1024 * 1024
        got = 0
        while data := await connection.read():
            got += len(data)
    assert got == size
