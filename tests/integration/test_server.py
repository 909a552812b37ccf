"""The HTTP server below the application: what is no request, and whose word counts for where one comes from."""

import asyncio
import contextlib
import json
import re
from collections.abc import Iterator

import httpx
import pytest

from tests.harness.chat import JSON, PATH, ask, assert_complete, body_of
from tests.harness.fleet import NOBODY, START, Fleet
from tests.harness.http import Address, Connection, Response
from tests.harness.ports import free_port
from tests.harness.process import Process, end_all
from tests.harness.waiting import wait_until
from tests.schedule import Schedule

HEADERS = 64 * 1024
"""Bytes of headers that are allowed."""
OPENAI = b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\n"

NO_REQUESTS = {
    "not HTTP": (b"Hello there\r\n\r\n", 400, "invalid_http"),
    "a TLS hello": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400, "invalid_http"),
    "two lengths": (OPENAI + b"content-length: 5\r\ncontent-length: 6\r\n\r\n", 400, "invalid_http"),
    "a NUL in a header": (OPENAI + b"a\x00b: c\r\n\r\n", 400, "invalid_http"),
    "broken chunks": (OPENAI + b"transfer-encoding: chunked\r\n\r\nzz\r\nab\r\n", 400, "invalid_http"),
    "a huge header": (OPENAI + b"x: " + b"a" * HEADERS + b"\r\n\r\n", 431, "headers_too_large"),
    "a header without an end": ((OPENAI + b"x: ").ljust(HEADERS + 1, b"a"), 431, "headers_too_large"),
}


async def send(address: Address, request: bytes) -> bytes:
    """All that comes back, up to the end of the connection."""
    reader, writer = await asyncio.open_connection(*address)
    try:
        writer.write(request)
        async with asyncio.timeout(10):
            return await reader.read()
    finally:
        writer.transport.abort()


@pytest.mark.parametrize("sent", [b"", OPENAI, b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n" + OPENAI], ids=repr)
async def test_a_connection_whose_request_does_not_come_is_closed(sent: bytes) -> None:
    """At once when its time is up: whether it is new, has begun, or has been served before."""
    with Fleet(workers=0, settings={"GATEWAY_HEADER_TIMEOUT": "1"}, start=False) as fleet:
        fleet.gateway.start()
        wait_until(lambda: fleet.readiness()[0], START, "the gateway listens")
        answer = b""
        with contextlib.suppress(ConnectionError):
            answer = await send(fleet.address, sent)
        assert b"connection without a request" in fleet.gateway.log().encode()
        assert answer.startswith(b"HTTP/1.1 200") == sent.startswith(b"GET")


async def test_headers_that_come_in_time_do_not_hurry_the_answer() -> None:
    """A stream may take longer than its request's headers may."""
    with Fleet(workers=1, settings={"GATEWAY_HEADER_TIMEOUT": "1"}) as fleet:
        schedule = Schedule(tokens=20, delay=0.1)
        assert_complete(await ask(fleet.address, schedule), schedule)


@pytest.mark.parametrize(("request_", "status", "code"), NO_REQUESTS.values(), ids=NO_REQUESTS.keys())
async def test_what_is_no_request_is_refused_as_everything_else(
    fleet: Fleet, request_: bytes, status: int, code: str
) -> None:
    written = fleet.gateway.log_size()
    head, _, content = (await send(fleet.address, request_)).partition(b"\r\n\r\n")
    start, *fields = head.decode().split("\r\n")
    headers = dict(field.split(": ", 1) for field in fields)
    assert start.startswith(f"HTTP/1.1 {status} ")
    assert headers["content-type"] == "application/json"
    assert headers["content-length"] == str(len(content))
    assert headers["connection"] == "close"
    error = json.loads(content)["error"]
    assert (error["code"], error["type"], error["retryable"]) == (code, "invalid_request_error", False)
    assert re.fullmatch("[0-9a-f]{32}", headers["x-request-id"])
    assert error["request_id"] == headers["x-request-id"]
    assert f"request={headers['x-request-id']}" in fleet.gateway.log(written)
    assert_complete(await ask(fleet.address, schedule := Schedule()), schedule)


async def until_cut(response: Response) -> tuple[bytes, bytes]:
    """The whole chunks of an answer that is cut off, and what came after them."""
    whole = b""
    try:
        async for chunk in response.chunks():
            whole += chunk
    except asyncio.IncompleteReadError as cut:
        return whole, cut.partial
    pytest.fail("the answer came to its end")


async def test_a_refusal_is_never_taken_for_a_part_of_an_answer_that_has_begun(fleet: Fleet) -> None:
    body = body_of(Schedule(tokens=1000, delay=0.05))
    async with Connection(fleet.address) as connection:
        response = await connection.request("POST", PATH, body, JSON)
        assert response.status == 200
        connection.send("no method", "no path")
        lines, rest = await until_cut(response)
    assert all(json.loads(line).keys() == {"content"} for line in lines.splitlines())
    assert rest == b""


# ---------------------------------------------------------------- proxies

PROXY, STRANGER = "127.0.0.2", "127.0.0.3"
FORWARDED = {"x-forwarded-for": "198.51.100.7, 203.0.113.5, 10.1.2.3", "x-forwarded-proto": "https"}


@pytest.fixture(scope="module")
def trusting(shared_fleet: Fleet) -> Iterator[tuple[Process, str]]:
    """A gateway, on its own, that believes one address and one network."""
    port = free_port()
    settings = {
        "GATEWAY_BIND": f"127.0.0.1:{port}",
        "GATEWAY_TRUSTED_PROXIES": f"{PROXY}, 10.0.0.0/8",
        "FLEET_HOST": NOBODY.removeprefix("http://"),
    }
    process = Process(f"gateway-{port}", "gateway", shared_fleet.folder, settings)
    process.start()
    try:
        wait_until(lambda: "event=listening" in process.log(), 60, "the gateway listens")
        yield process, f"http://127.0.0.1:{port}"
    finally:
        end_all([process])


def ask_from(source: str, gateway: Process, url: str, headers: dict[str, str]) -> tuple[str, str]:
    """Who asked, by the gateway's log, and the scheme that it takes its own address to have."""
    transport = httpx.HTTPTransport(local_address=source)
    with httpx.Client(base_url=url, transport=transport, timeout=30, trust_env=False) as client:
        answer = client.get("/fleet/", headers=headers)
    assert answer.status_code == 307
    line = f"request={answer.headers['x-request-id']}"
    wait_until(lambda: line in gateway.log(), 10, "the request's line in the log")
    (found,) = [entry for entry in gateway.log().splitlines() if line in entry]
    (client_address,) = re.findall(r" client=(\S+)", found)
    return client_address, httpx.URL(answer.headers["location"]).scheme


def test_a_trusted_proxy_is_believed_up_to_the_last_stranger(trusting: tuple[Process, str]) -> None:
    assert ask_from(PROXY, *trusting, FORWARDED) == ("203.0.113.5", "https")
    assert ask_from(PROXY, *trusting, {}) == (PROXY, "http")


def test_a_strangers_forwarded_headers_are_not_believed(trusting: tuple[Process, str]) -> None:
    assert ask_from(STRANGER, *trusting, FORWARDED) == (STRANGER, "http")


def test_without_trusted_proxies_nobody_is_believed(fleet: Fleet) -> None:
    assert ask_from("127.0.0.1", fleet.gateway, fleet.url, FORWARDED) == ("127.0.0.1", "http")
