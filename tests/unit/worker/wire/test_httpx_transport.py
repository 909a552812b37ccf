"""Our transport under a client of httpx."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import httpx
import httpx2
import pytest

from tests.harness.scripted import CHUNKED, END, OK, Part, Server, chunk, listening
from worker.wire.answers import EVENT_LIMIT
from worker.wire.httpx_transport import bound_httpx


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    made.pause = 0.0
    async with asyncio.timeout(20), listening(made.serve) as made.url:
        yield made


@pytest.fixture
async def older() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(follow_redirects=True, timeout=5) as made:
        bound_httpx(made)
        yield made


async def test_a_client_of_httpx_is_bounded_too(older: httpx.AsyncClient, server: Server) -> None:
    parts: Sequence[Part] = [CHUNKED + chunk(b"a"), chunk(b"b"), END]
    server.answers.append(list(parts))
    response = await older.post(server.url, json={"a": 1}, headers={"x-y": "z"})
    assert (response.status_code, response.text) == (200, "ab")
    assert b"\r\nx-y: z\r\n" in server.requests[0].lower()
    assert server.requests[0].endswith(b'{"a":1}')
    for answer, error in (
        (b"HTTP/1.1 307 X\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n", httpx.RemoteProtocolError),
        (CHUNKED + b"zz\r\n", httpx.RemoteProtocolError),
        (OK + b"\r\n" + b"a" * (EVENT_LIMIT + 1), httpx.RemoteProtocolError),
    ):
        server.answers.append([answer, None])
        with pytest.raises(error) as failed:
            await older.post(server.url, json={})
        assert isinstance(failed.value.__cause__, httpx2.RemoteProtocolError)
    with pytest.raises(httpx.ConnectError):
        await older.post("http://127.0.0.1:1/", json={})
