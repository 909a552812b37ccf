"""What clients, tools and proxies do to HTTP that the SDKs do not: each is served, or told why not."""

import asyncio
import gzip
import json
import time
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.harness.chat import JSON, PATH, body_of, send
from tests.harness.fleet import Fleet
from tests.harness.http import Address, Connection, get_json
from tests.harness.waiting import eventually
from tests.integration.test_cancel import GENEROUS, tag
from tests.proxy import Proxy
from tests.schedule import Schedule, reply_text

OPENAI = "/v1/chat/completions"
LATE = Schedule(tokens=5, first_delay=1.5)
"""Its first token comes after most of the probes."""
SHORT = Schedule(tokens=3)
PAUSING = Schedule(tokens=5, delay=0.3)
Say = Callable[[str], None]


def openai_body(schedule: Schedule, **fields: Any) -> bytes:
    return json.dumps({"messages": [{"role": "user", "content": schedule.message()}], **fields}).encode()


def request(path: str, body: bytes, version: str = "1.1", fields: str = "") -> bytes:
    head = f"POST {path} HTTP/{version}\r\nhost: a\r\n{fields}content-length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def exchange(address: Address, sent: bytes, *, half: bool = False) -> bytes:
    """All that comes back for these bytes, up to the end of the connection."""
    reader, writer = await asyncio.open_connection(*address)
    try:
        writer.write(sent)
        if half:
            writer.write_eof()
        async with asyncio.timeout(30):
            return await reader.read()
    finally:
        writer.transport.abort()


def body_in(answer: bytes) -> bytes:
    """The body of one answer, which must be well framed and the connection's last."""
    head, _, rest = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n"), head
    assert head.count(b"HTTP/1.1") == 1, head
    assert b"connection: close" in head
    if b"transfer-encoding: chunked" not in head:
        return rest
    assert rest.endswith(b"0\r\n\r\n")
    return b"".join(chunks(rest))


def chunks(rest: bytes) -> Iterator[bytes]:
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        yield rest[: int(size, 16)]
        rest = rest[int(size, 16) + 2 :]


def text_in(body: bytes) -> str:
    """The text of a body of either API, streamed or whole."""
    text = ""
    for line in body.splitlines():
        line = line.removeprefix(b"data: ")
        if line and line != b"[DONE]":
            said = json.loads(line)
            for choice in said.get("choices", ()):
                text += (choice.get("delta") or choice.get("message", {})).get("content") or ""
            text += said.get("content", "")
    return text


@pytest.mark.parametrize("version", ["1.1", "1.0"])
@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("path", [PATH, OPENAI])
@pytest.mark.parametrize("schedule", [LATE, PAUSING], ids=["late", "pausing"])
async def test_a_client_that_closes_its_sending_side_gets_its_whole_reply(
    fleet: Fleet, schedule: Schedule, path: str, stream: bool, version: str
) -> None:
    make = body_of if path == PATH else openai_body
    sent = request(path, make(schedule, stream=stream), version)
    assert text_in(body_in(await exchange(fleet.address, sent, half=True))) == reply_text(schedule)


async def test_an_early_failure_keeps_its_status_after_the_end_of_sending(fleet: Fleet) -> None:
    sent = request(OPENAI, openai_body(Schedule(first_delay=0.5, status=400), stream=True))
    answer = await exchange(fleet.address, sent, half=True)
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("spoken", [0, 3], ids=["silent", "speaking"])
async def test_leaving_reaches_the_model_through_a_proxy_that_passes_the_end_on(
    fleet: Fleet, figures: Say, stream: bool, spoken: int
) -> None:
    """Such a proxy answers the first probe as one who is there, and only then learns that its client is not."""
    name = tag()
    schedule = Schedule(tag=name, first_delay=0 if spoken else 60, hang_after=spoken)
    with Proxy(fleet.address) as proxy:
        async with Connection(proxy.address) as connection:
            connection.send("POST", PATH, body_of(schedule, stream=stream), JSON)
            await eventually(lambda: fleet.backend.requests(name))
            await eventually(lambda: not spoken or fleet.backend.request(name)["first_token"])
            left = time.monotonic()
        closed = await eventually(lambda: fleet.backend.request(name)["closed"], what="the model is told")
    figures(f"closed after {1000 * (closed - left):.0f} ms")
    assert closed - left < GENEROUS


@pytest.mark.parametrize("path", [PATH, OPENAI])
async def test_an_old_client_reads_a_stream_to_the_end_of_its_connection(fleet: Fleet, path: str) -> None:
    make = body_of if path == PATH else openai_body
    sent = request(path, make(PAUSING, stream=True), "1.0", "connection: keep-alive\r\n")
    answer = await exchange(fleet.address, sent)
    assert b"transfer-encoding" not in answer
    assert text_in(body_in(answer)) == reply_text(PAUSING)


async def test_an_old_client_that_asks_to_can_ask_again(fleet: Fleet) -> None:
    sent = request(OPENAI, openai_body(SHORT), "1.0", "connection: keep-alive\r\n")
    reader, writer = await asyncio.open_connection(*fleet.address)
    async with asyncio.timeout(30):
        for _ in range(3):
            writer.write(sent)
            head = await reader.readuntil(b"\r\n\r\n")
            assert b"connection: keep-alive\r\n" in head
            length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
            assert text_in(await reader.readexactly(length)) == reply_text(SHORT)
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize("compress", [gzip.compress, zlib.compress], ids=["gzip", "deflate"])
async def test_a_compressed_body_is_understood(fleet: Fleet, compress: Callable[[bytes], bytes]) -> None:
    encoding = "gzip" if compress is gzip.compress else "deflate"
    padded = openai_body(SHORT).ljust(2_000_000)
    answer = await exchange(
        fleet.address,
        request(OPENAI, compress(padded), fields=f"content-encoding: {encoding}\r\nconnection: close\r\n"),
    )
    assert text_in(body_in(answer)) == reply_text(SHORT)


async def test_a_bomb_is_refused_by_what_it_unpacks_to(fleet: Fleet, figures: Say) -> None:
    bomb = gzip.compress(bytes(100 * 2**20))
    memory, began = fleet.gateway.memory(), time.monotonic()
    reply = await send(fleet.address, bomb, JSON | {"content-encoding": "gzip"})
    figures(f"{len(bomb)} bytes of 100 MiB: {time.monotonic() - began:.2f} s")
    assert (reply.status, reply.error["code"]) == (413, "body_too_large")
    assert fleet.gateway.memory() - memory < 32 * 2**20


@pytest.mark.parametrize(
    ("encoding", "body", "status", "code"),
    [
        ("br", b"{}", 415, "unsupported_encoding"),
        ("zstd", b"{}", 415, "unsupported_encoding"),
        ("gzip", b"{}", 400, "invalid_encoding"),
        ("gzip", gzip.compress(b"{}")[:-3], 400, "invalid_encoding"),
    ],
)
async def test_what_cannot_be_decompressed_is_named(
    fleet: Fleet, encoding: str, body: bytes, status: int, code: str
) -> None:
    reply = await send(fleet.address, body, JSON | {"content-encoding": encoding})
    assert (reply.status, reply.error["code"]) == (status, code)
    assert status == 400 or (encoding in reply.error["message"] and "gzip" in reply.headers["accept-encoding"])


async def test_a_byte_order_mark_is_no_part_of_the_json(fleet: Fleet) -> None:
    reply = await send(fleet.address, b"\xef\xbb\xbf" + body_of(SHORT))
    assert reply.text == reply_text(SHORT)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/chat/completions/",
        "//v1/chat/completions",
        "/v1//chat/completions",
        "/openai/v1/chat/completions",
        "/openai/deployments/other/chat/completions?api-version=2024-10-21",
    ],
)
async def test_other_spellings_of_the_path_are_served(fleet: Fleet, path: str) -> None:
    async with asyncio.timeout(30), Connection(fleet.address) as connection:
        response = await connection.request("POST", path, openai_body(SHORT), JSON)
        assert response.status == 200
        assert text_in(await response.body()) == reply_text(SHORT)


@pytest.mark.parametrize("fields", [{}, {"model": "other"}])
async def test_azures_path_decides_which_model_it_is(fleet: Fleet, fields: dict[str, str]) -> None:
    path = "/openai/deployments/no-such/chat/completions"
    async with asyncio.timeout(30), Connection(fleet.address) as connection:
        response = await connection.request("POST", path, openai_body(SHORT, **fields), JSON)
        error = (await response.json())["error"]
    assert (response.status, error["code"], "no-such" in error["message"]) == (404, "model_not_found", True)


@pytest.mark.parametrize(
    ("method", "path", "word"),
    [
        ("POST", "/v1/responses", "Responses API"),
        ("POST", "/v1/audio/speech", "audio API"),
        ("POST", "/v1/messages", "Anthropic API"),
        ("GET", "/v1/files", "files API"),
        ("POST", "/v1/v1/chat/completions", "base URL"),
        ("POST", "/v1/chat/completions/chat/completions", "base URL"),
    ],
)
async def test_a_path_that_is_not_served_says_what_is(fleet: Fleet, method: str, path: str, word: str) -> None:
    async with asyncio.timeout(30), Connection(fleet.address) as connection:
        response = await connection.request(method, path, b"{}")
        error = (await response.json())["error"]
    assert (response.status, error["code"], error["type"]) == (404, "unknown_url", "invalid_request_error")
    assert word in error["message"]


async def test_openais_messages_on_the_other_path_are_told_where_to_go(fleet: Fleet) -> None:
    reply = await send(fleet.address, openai_body(Schedule()))
    assert reply.status == 422
    assert "source is missing" in reply.error["message"]
    assert "/v1" in reply.error["message"]


async def test_a_visitor_is_told_what_there_is(fleet: Fleet) -> None:
    for path in ("/", "/v1", "/v1/"):
        status, said = await get_json(fleet.address, path)
        assert (status, said["service"]) == (200, "chatfleet")
        assert "/v1/chat/completions" in said["openai"]
    assert await get_json(fleet.address, "/health") == (200, {"status": "ok"})
    assert await get_json(fleet.address, "/models") == await get_json(fleet.address, "/v1/models")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("protocol", ["h2c", "websocket"])
@pytest.mark.parametrize("path", ["/v1/models", "/healthz"])
async def test_an_upgrade_changes_nothing_about_a_request_without_a_body(
    fleet: Fleet, method: str, protocol: str, path: str
) -> None:
    fields = {"connection": "Upgrade, HTTP2-Settings", "upgrade": protocol, "http2-settings": "AAMAAABk"}
    async with asyncio.timeout(30), Connection(fleet.address) as connection:
        for _ in range(2):
            response = await connection.request(method, path, headers=fields)
            assert response.status == 200
            if method == "GET":
                await response.body()
