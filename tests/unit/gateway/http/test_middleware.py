"""What every answer gets, whatever answers: its id, one log line, an error instead of silence, and CORS."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send
from structlog.testing import capture_logs

from gateway.access.access import Access
from gateway.http.middleware import Edge
from protos import chat_pb2 as pb
from tests.harness.http import Connection
from tests.harness.waiting import until
from tests.unit.gateway.http.serving import BODIES, OPENAI, SEED, Gateway, content_of, serving

Lines = list[Any]


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    async with serving() as made:
        yield made


@pytest.fixture
def logged() -> Iterator[Lines]:
    with capture_logs() as lines:
        yield lines


async def test_requests_that_arrive_together_begin_a_few_at_a_time() -> None:
    """A stream's next token waits for a few of them, not for all."""
    begun: list[int] = []
    turns = 0

    async def working(scope: Scope, receive: Receive, send: Send) -> None:
        begun.append(turns)
        time.sleep(0.002)  # noqa: ASYNC251  # blocks, as parsing and routing do
        await answering(scope, receive, send)

    async def send(_: Message) -> None:
        pass

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def others() -> None:
        nonlocal turns
        while len(begun) < 50:
            turns += 1
            await asyncio.sleep(0)

    edge = Edge(working, lambda: False)
    async with asyncio.TaskGroup() as group:
        for _ in range(50):
            group.create_task(edge({"type": "http", "method": "GET", "path": "/", "headers": []}, receive, send))
        group.create_task(others())
    assert max(Counter(begun).values()) <= 5


async def served(
    app: Any, *, headers: list[tuple[bytes, bytes]] | None = None, path: str = "/a", leaving: bool = False
) -> list[Message]:
    """What a request to ``app`` was answered, behind the middleware."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {"type": "http", "method": "GET", "path": path, "headers": headers or [], "client": ("a\x1b", 1)}
    await Edge(app, lambda: leaving)(scope, receive, send)
    return sent


async def answering(scope: Scope, _: Receive, send: Send) -> None:
    scope["state"]["served"] = True
    await send({"type": "http.response.start", "status": 204, "headers": [(b"a", b"b")]})
    await send({"type": "http.response.body", "body": b""})


async def failing(_: Scope, __: Receive, ___: Send) -> None:
    raise LookupError("secret")


async def failing_late(scope: Scope, receive: Receive, send: Send) -> None:
    await answering(scope, receive, send)
    raise LookupError("secret")


async def test_an_answer_gets_an_id_and_one_log_line(logged: Lines) -> None:
    start, _ = await served(answering)
    [line] = logged
    assert (line["event"], line["log_level"], line["status"], line["path"]) == ("request", "info", 204, "/a")
    assert dict(start["headers"]) == {b"a": b"b", b"x-request-id": line["request"].encode()}
    assert line["client"] == r"a\x1b"


@pytest.mark.parametrize("given", [b"abc-1:2.3_4", b"a" * 128])
async def test_a_clients_own_id_is_given_back_and_ours_is_logged_with_it(given: bytes, logged: Lines) -> None:
    start, _ = await served(answering, headers=[(b"x-request-id", given)])
    assert (b"x-request-id", given) in start["headers"]
    [line] = logged
    assert line["client_request"] == given.decode()
    assert line["request"] != given.decode()


@pytest.mark.parametrize("given", [b"", b"a b", b"a" * 129, b"a\n", b"\xff"])
async def test_an_id_that_is_not_valid_is_not(given: bytes, logged: Lines) -> None:
    start, _ = await served(answering, headers=[(b"x-request-id", given)])
    assert dict(start["headers"])[b"x-request-id"] == logged[0]["request"].encode()


async def test_probes_are_logged_at_debug(logged: Lines) -> None:
    await served(answering, path="/healthz")
    assert [line["log_level"] for line in logged] == ["debug"]


async def test_control_characters_of_a_path_are_escaped_in_the_log(logged: Lines) -> None:
    await served(answering, path="/\x1b[2J\r\n" + "x" * 1000)
    assert logged[0]["path"].startswith(r"/\x1b[2J\r\nxxx")
    assert len(logged[0]["path"]) < 600


async def test_a_failure_is_answered_and_logged_without_its_text_reaching_the_client(logged: Lines) -> None:
    start, body = await served(failing)
    assert start["status"] == 500
    error = json.loads(body["body"])["error"]
    assert error["code"] == "internal_error"
    assert "secret" not in error["message"]
    assert [line["event"] for line in logged] == ["request failed", "request"]
    assert {line["request"] for line in logged} == {error["request_id"]}


async def test_a_failure_behind_an_answer_is_logged_and_adds_nothing_to_it(logged: Lines) -> None:
    sent = await served(failing_late)
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    assert [line["event"] for line in logged] == ["request failed", "request"]


async def test_a_gateway_that_leaves_closes_each_connection() -> None:
    start, _ = await served(answering, leaving=True)
    assert (b"connection", b"close") in start["headers"]


async def test_what_is_no_request_passes_unchanged() -> None:
    seen: list[Scope] = []

    async def app(scope: Scope, _: Receive, __: Send) -> None:
        seen.append(scope)

    scope = {"type": "lifespan"}
    await Edge(app, lambda: False)(scope, None, None)  # type: ignore[arg-type]
    assert seen == [{"type": "lifespan"}]


# ---------------------------------------------------------------- over HTTP


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT"])
@pytest.mark.parametrize("path", [SEED, OPENAI])
async def test_other_methods_are_not_allowed_there(gateway: Gateway, method: str, path: str) -> None:
    async with asyncio.timeout(10), Connection(gateway.address) as connection:
        response = await connection.request(method, path)
        assert response.status == 405
        assert response.headers["allow"] == "POST, OPTIONS"
        if method != "HEAD":
            error = (await response.json())["error"]
            assert (error["code"], "POST" in error["message"]) == ("not_allowed", True)
        assert (await connection.request("GET", "/healthz")).status == 200


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        (OPENAI, "POST, OPTIONS"),
        (SEED, "POST, OPTIONS"),
        ("/v1/models", "GET, HEAD, OPTIONS"),
        ("/readyz", "GET, POST, HEAD, OPTIONS"),
    ],
)
async def test_options_tell_the_methods_of_a_path(gateway: Gateway, path: str, allowed: str) -> None:
    async with asyncio.timeout(10), Connection(gateway.address) as connection:
        response = await connection.request("OPTIONS", path)
        assert (response.status, response.headers["allow"]) == (204, allowed)
        assert (await connection.request("OPTIONS", "/nothing")).status == 404


@pytest.mark.parametrize(
    "path", ["/", "/v1", "/health", "/healthz", "/readyz", "/fleet", "/docs", "/openapi.json", "/models", "/v1/models"]
)
async def test_head_is_get_without_the_body(gateway: Gateway, path: str) -> None:
    async with asyncio.timeout(10), Connection(gateway.address) as connection:
        got = await connection.request("GET", path)
        body = await got.body()
        for asked in (path, path + "/" if path != "/" else "//", "/" + path):
            head = await connection.request("HEAD", asked)
            assert (head.status, head.headers["content-length"]) == (got.status, str(len(body)))
            assert head.headers["content-type"] == got.headers["content-type"]
        assert got.status == 200
        assert (await connection.request("HEAD", "/v1/models/m")).status == 200
        assert (await connection.request("HEAD", "/v1/models/other")).status == 404


@pytest.mark.parametrize("path", [SEED, OPENAI])
@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}", b'{"messages": 1}'])
async def test_errors_have_the_shape_of_their_api(gateway: Gateway, path: str, body: bytes) -> None:
    async with asyncio.timeout(10), Connection(gateway.address) as connection:
        response = await connection.request("POST", path, body)
        assert response.status in (400, 422)
        error = (await response.json())["error"]
    assert error["request_id"] == response.headers["x-request-id"]
    assert ("type" in error) == (path == OPENAI)
    assert {"code", "message", "retryable"} <= error.keys()


@pytest.mark.parametrize("path", [SEED, OPENAI])
async def test_a_defect_is_answered_in_the_shape_of_its_api_too(
    gateway: Gateway, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise LookupError

    monkeypatch.setattr(Access, "enter", broken)
    async with asyncio.timeout(10), Connection(gateway.address) as connection:
        response = await connection.request("POST", path, json.dumps(BODIES[path]).encode())
        assert response.status == 500
        error = (await response.json())["error"]
    assert error["code"] == "internal_error"
    assert ("type" in error) == (path == OPENAI)


@pytest.mark.parametrize("path", [SEED, OPENAI])
async def test_a_page_of_an_allowed_origin_may_read_the_stream(path: str) -> None:
    async with (
        asyncio.timeout(10),
        serving(cors_origins=["https://a.example"]) as gateway,
        Connection(gateway.address) as connection,
    ):
        origin = {"origin": "https://a.example"}
        connection.send("POST", path, json.dumps(BODIES[path]).encode(), origin)
        worker = await gateway.asked()
        worker.text("a")
        response = await connection.answer()
        assert response.headers["access-control-allow-origin"] == "https://a.example"
        exposed = response.headers["access-control-expose-headers"]
        assert {"x-request-id", "retry-after", "x-attempts", "x-ratelimit-remaining-tokens"} <= set(exposed.split(", "))
        for text in "bc":
            worker.text(text)
        worker.done()
        assert "".join([content_of(path, chunk) async for chunk in response.chunks()]) == "abc"
        preflight = {**origin, "access-control-request-method": "POST"}
        allowed = await connection.request("OPTIONS", path, headers=preflight)
        assert (allowed.status, await allowed.body()) == (200, b"OK")
        refused = await connection.request("POST", path, b"{", origin)
        assert (refused.status, refused.headers["access-control-allow-origin"]) == (400, "https://a.example")


async def test_a_refused_requests_line_tells_why(gateway: Gateway, logged: Lines) -> None:
    body = json.dumps({**BODIES[OPENAI], "model": "none"}).encode()
    async with asyncio.timeout(10), Connection(gateway.address) as connection:
        assert (await connection.request("POST", OPENAI, body)).status == 404
    [line] = [line for line in logged if line["event"] == "request"]
    told = {name: line[name] for name in ("log_level", "status", "code", "face", "model")}
    assert told == {"log_level": "info", "status": 404, "code": "unknown_model", "face": "openai", "model": "none"}


@pytest.mark.parametrize(
    ("end", "code", "level"),
    [
        ({"done": pb.Done(finish_reason="stop", usage=pb.Usage(prompt_tokens=3, completion_tokens=2))}, "ok", "info"),
        ({"error": pb.Error(code="model_stream_broken")}, "model_stream_broken", "warning"),
        ({"error": pb.Error(code="model_rejected_request")}, "model_rejected_request", "info"),
    ],
)
async def test_a_streams_line_tells_how_it_ended(
    end: dict[str, Any], code: str, level: str, gateway: Gateway, logged: Lines
) -> None:
    async with asyncio.timeout(10), Connection(gateway.address) as connection:
        connection.send("POST", OPENAI, json.dumps(BODIES[OPENAI]).encode())
        worker = await gateway.asked()
        worker.text("a")
        response = await connection.answer()
        assert response.status == 200
        worker.event(**end)
        await until(lambda: any(line["event"] == "request" for line in logged))
    [line] = [line for line in logged if line["event"] == "request"]
    assert (line["code"], line["log_level"], line["status"]) == (code, level, 200)
    assert (line["worker"], line["attempts"], line["tokens"], line["model"]) == (worker.id, 1, 1, "m")
    assert 0 <= line["queued_ms"] <= line["first_ms"] <= line["ms"]
    if code == "ok":
        assert (line["prompt_tokens"], line["completion_tokens"], line["finish"]) == (3, 2, "stop")


async def test_the_line_of_a_request_that_names_no_model_has_the_default(gateway: Gateway, logged: Lines) -> None:
    body = json.dumps({**BODIES[SEED], "model": None}).encode()
    gateway.stage.chats.draining = True
    async with asyncio.timeout(10), Connection(gateway.address) as connection:
        assert (await connection.request("POST", SEED, body)).status == 503
    [line] = [line for line in logged if line["event"] == "request"]
    assert (line["code"], line["model"]) == ("draining", "m")
