"""Our HTTP/1.1 transport over TLS, against a server with a certificate of the fleet's own authority."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest

from identities.authority import Authority
from tests.harness.scripted import CHUNKED, END, OK, Server, chunk, listening
from tests.harness.waiting import until
from tests.unit.worker.wire.consumer import Kept
from worker.wire.pacer import Pacer
from worker.wire.transport import BODY, Body, Transport

pytestmark = pytest.mark.both_loops

LARGE = 4 * 1024 * 1024


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 and localhost, its key, and who signed it."""
    directory = tmp_path_factory.mktemp("identities")
    Authority(directory).update()
    return directory / "host"


@pytest.fixture
def context(identity: Path) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(identity / "cert.pem", identity / "key.pem")
    return made


@pytest.fixture
async def server(context: ssl.SSLContext) -> AsyncIterator[Server]:
    made = Server()
    made.pause = 0.0
    async with listening(made.serve, context) as made.url:
        yield made


@pytest.fixture
async def client(identity: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[httpx2.AsyncClient]:
    """One that trusts the authority, as an operator tells it to."""
    monkeypatch.setenv("SSL_CERT_FILE", str(identity / "ca.pem"))
    async with httpx2.AsyncClient(transport=Transport(), timeout=5) as made:
        yield made


async def test_a_request_and_its_answer_come_whole(client: httpx2.AsyncClient, server: Server) -> None:
    body = bytes(range(256)) * (LARGE // 256)
    server.answers.append([OK + b"content-length: %d\r\n\r\n" % LARGE, body])
    response = await client.post(server.url, content=body)
    assert response.content == body
    assert server.requests[0].endswith(body)


async def test_a_connection_takes_one_request_after_the_other(client: httpx2.AsyncClient, server: Server) -> None:
    for number in range(3):
        server.answers.append([OK + b"content-length: 1\r\n\r\n%d" % number])
        assert (await client.post(server.url)).content == b"%d" % number
    assert server.connections == 1


async def test_a_connection_that_the_server_closed_is_not_used_again(
    client: httpx2.AsyncClient, server: Server
) -> None:
    server.answers += [[OK + b"content-length: 1\r\n\r\na", None], [OK + b"content-length: 1\r\n\r\nb"]]
    await client.post(server.url)
    ((connection, _),) = next(iter(client._transport._idle.values())).items()  # type: ignore[attr-defined]
    await until(lambda: not connection.is_open)
    assert (await client.post(server.url)).content == b"b"
    assert server.connections == 2


async def test_a_body_that_breaks_off_is_an_error(client: httpx2.AsyncClient, server: Server) -> None:
    server.answers.append([CHUNKED + chunk(b"a"), None])
    with pytest.raises(httpx2.ReadError):
        await client.post(server.url)


async def test_a_certificate_for_another_name_is_refused(client: httpx2.AsyncClient, server: Server) -> None:
    with pytest.raises(httpx2.ConnectError, match="certificate"):
        await client.post(server.url, extensions={"sni_hostname": "model.example"})
    assert server.requests == []


async def test_a_certificate_of_a_stranger_is_refused(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    async with httpx2.AsyncClient(transport=Transport()) as client:
        with pytest.raises(httpx2.ConnectError, match="certificate"):
            await client.post(server.url)
    assert server.requests == []


@pytest.mark.parametrize("said", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b""])
async def test_a_server_without_tls_is_an_error(client: httpx2.AsyncClient, said: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(said)
        await writer.drain()

    async with listening(serve) as address:
        with pytest.raises(httpx2.ConnectError):
            await client.post(address.replace("http:", "https:"))


async def test_a_server_that_shakes_no_hand_is_given_up(client: httpx2.AsyncClient) -> None:
    left = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(4096):
            pass
        left.set()

    async with listening(serve) as address:
        with pytest.raises(httpx2.ConnectTimeout):
            await client.post(address.replace("http:", "https:"), timeout=httpx2.Timeout(5, connect=2))
        await asyncio.wait_for(left.wait(), 5)


async def test_one_reading_takes_all_records_that_have_come(client: httpx2.AsyncClient, server: Server) -> None:
    """A server puts each token into a record of its own: one in a slot would let them pile up."""
    readings = 0
    count = 40
    go_on = asyncio.Event()
    server.answers.append([CHUNKED + chunk(b"a"), go_on, *[chunk(b"b")] * count, asyncio.Event()])

    def begin() -> None:
        nonlocal readings
        readings += 1

    pacer = Pacer(0.2, begin)
    async with client.stream("POST", server.url) as response:
        body: Body = response.extensions[BODY]
        kept = Kept(body)
        await kept.some()
        body.pace(pacer)
        go_on.set()
        await kept.some(1 + count)
    pacer.close()
    assert readings <= count // 4


async def test_a_paced_body_comes_whole(client: httpx2.AsyncClient, server: Server) -> None:
    server.answers.append([CHUNKED + chunk(b"a"), *[chunk(bytes(100_000))] * 8, END])
    pacer = Pacer(0.005)
    async with client.stream("POST", server.url) as response:
        body: Body = response.extensions[BODY]
        kept = Kept(body)
        body.pace(pacer)
        assert await kept.whole() == b"a" + bytes(800_000)
    pacer.close()
