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
from tests.harness.http import Address, Connection
from tests.harness.ports import free_port
from tests.harness.process import Process, end_all
from tests.harness.waiting import SOON, wait_until
from tests.schedule import Schedule, reply_text

HEADERS = 64 * 1024
"""Bytes of headers that are allowed."""
OPENAI = b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\n"

NO_REQUESTS = {
    "not HTTP": (b"Hello there\r\n\r\n", 400, "invalid_http"),
    "a TLS hello": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400, "invalid_http"),
    "no host": (b"GET /healthz HTTP/1.1\r\n\r\n", 400, "invalid_http"),
    "two hosts": (b"GET /healthz HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n", 400, "invalid_http"),
    "a tunnel": (b"CONNECT a:443 HTTP/1.1\r\nhost: a:443\r\n\r\n" + OPENAI, 405, "not_allowed"),
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
        async with asyncio.timeout(30):
            return await reader.read()
    finally:
        writer.transport.abort()


@pytest.mark.parametrize(("sent", "served_before"), [(b"", False), (OPENAI, False), (OPENAI, True)], ids=repr)
async def test_a_connection_whose_request_does_not_come_is_closed(sent: bytes, served_before: bool) -> None:
    """At once when its time is up: whether it is new, has begun, or has been served before."""
    with Fleet(workers=0, settings={"GATEWAY_HEADER_TIMEOUT": "3"}, start=False) as fleet:
        fleet.gateway.start()
        wait_until(lambda: fleet.readiness()[0], START, "the gateway listens")
        async with asyncio.timeout(30), Connection(fleet.address) as connection:
            if served_before:
                assert (await (await connection.request("GET", "/healthz")).json()) == {"status": "ok"}
            connection._writer.write(sent)
            with contextlib.suppress(ConnectionError):
                assert await connection.at_end()
        assert "connection without a request" in fleet.gateway.log()


async def test_headers_that_come_in_time_do_not_hurry_the_answer() -> None:
    """A stream may take longer than its request's headers may."""
    with Fleet(workers=1, settings={"GATEWAY_HEADER_TIMEOUT": "3"}) as fleet:
        schedule = Schedule(tokens=50, delay=0.1)
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


@pytest.mark.parametrize("first", [b"", b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n"], ids=["alone", "behind a request"])
async def test_a_refusal_is_never_taken_for_a_part_of_an_answer_that_has_begun(fleet: Fleet, first: bytes) -> None:
    """What is sent behind a request is discarded; the answer is complete, and the connection's last."""
    schedule = Schedule(tokens=20, delay=0.25)  # it must still run when the rest is sent
    async with asyncio.timeout(60), Connection(fleet.address) as connection:
        response = await connection.request("POST", PATH, body_of(schedule), JSON)
        assert response.status == 200
        connection._writer.write(first + b"no method\x00\r\n\r\n")
        lines = [json.loads(chunk) async for chunk in response.chunks()]
        assert await connection.at_end()
    assert "".join(line["content"] for line in lines) == reply_text(schedule)
    assert lines[-1]["done"]


def test_no_answer_sends_its_client_to_the_host_that_it_claimed_to_ask(fleet: Fleet) -> None:
    with httpx.Client(base_url=fleet.url, timeout=30, trust_env=False) as client:
        for path in ("/fleet/", "/v1/models/", "/docs/", "/healthz/", "//fleet", "/docs-static"):
            answer = client.get(path, headers={"host": "evil.example"})
            assert answer.status_code in (200, 404), path
            assert "evil.example" not in str(answer.headers) + answer.text


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


def ask_from(source: str, gateway: Process, url: str, headers: dict[str, str]) -> str:
    """Who asked, by the gateway's log."""
    transport = httpx.HTTPTransport(local_address=source)
    with httpx.Client(base_url=url, transport=transport, timeout=30, trust_env=False) as client:
        answer = client.get("/fleet", headers=headers)
    assert answer.status_code == 200
    line = f"request={answer.headers['x-request-id']}"
    wait_until(lambda: line in gateway.log(), SOON, "the request's line in the log")
    (found,) = [entry for entry in gateway.log().splitlines() if line in entry]
    client_address: str
    (client_address,) = re.findall(r" client=(\S+)", found)
    return client_address


def test_a_trusted_proxy_is_believed_up_to_the_last_stranger(trusting: tuple[Process, str]) -> None:
    assert ask_from(PROXY, *trusting, FORWARDED) == "203.0.113.5"
    assert ask_from(PROXY, *trusting, {}) == PROXY


def test_a_strangers_forwarded_headers_are_not_believed(trusting: tuple[Process, str]) -> None:
    assert ask_from(STRANGER, *trusting, FORWARDED) == STRANGER


def test_without_trusted_proxies_nobody_is_believed(fleet: Fleet) -> None:
    assert ask_from("127.0.0.1", fleet.gateway, fleet.url, FORWARDED) == "127.0.0.1"
