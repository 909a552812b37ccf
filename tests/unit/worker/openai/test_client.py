"""Requests are what the SDK would send, and its errors are raised, against a server that keeps what it was sent."""

import asyncio
import gc
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import openai
import pytest
from autogen_core.models import ModelFamily, ModelInfo

from tests.harness.scripted import CHUNKED, END, Part, Server, chunk, listening
from tests.harness.waiting import until
from tests.unit.worker.recording import Recording
from worker.openai.client import StreamingAzureOpenAIClient, StreamingOpenAIClient

INFO = ModelInfo(
    vision=False, function_calling=True, json_output=True, family=ModelFamily.UNKNOWN, structured_output=True
)
TOOL = {"type": "function", "function": {"name": "f", "description": "é", "parameters": {"type": "object"}}}
HI = {"role": "user", "content": "hi"}
REPLY = chunk(b'data: {"choices": [{"delta": {"content": "a"}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n')
WHOLE: list[Part] = [CHUNKED + REPLY + END]


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    async with listening(made.serve) as made.url:
        yield made


class Asker:
    """A client, and what it writes."""

    def __init__(self, server: Server, **config: Any) -> None:
        given = {"model": "m", "base_url": server.url + "/v1", "api_key": "k", "max_retries": 0, "model_info": INFO}
        self.server = server
        self.client = StreamingOpenAIClient(**{**given, **config})

    async def ask(self, text: str = "hi", *answer: Part, **fields: Any) -> Recording:
        self.server.answers.append(list(answer or WHOLE))
        recording = Recording()
        recording.end = await self.client.stream(recording, {"messages": [{**HI, "content": text}], **fields})
        return recording

    async def fail(self, text: str, *answer: Part) -> openai.APIStatusError:
        with pytest.raises(openai.APIStatusError) as failed:
            await self.ask(text, *answer)
        return failed.value


@pytest.fixture
async def asker(server: Server) -> AsyncIterator[Asker]:
    made = Asker(server)
    yield made
    await made.client.close()


def parted(request: bytes) -> tuple[list[bytes], Any]:
    """A request's head, without its length, and its body."""
    head, _, body = request.partition(b"\r\n\r\n")
    return [line for line in head.split(b"\r\n") if not line.lower().startswith(b"content-length")], json.loads(body)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"tools": [TOOL], "tool_choice": "required"},
        {"temperature": 0.5, "stop": ["é"], "seed": 2**53},
        {"response_format": {"type": "json_object"}, "logprobs": True},
    ],
    ids=repr,
)
async def test_a_request_is_what_the_sdk_would_send(server: Server, asker: Asker, fields: dict[str, Any]) -> None:
    await asker.ask("zweitens: ü", **fields)
    theirs: Any = openai.AsyncOpenAI(base_url=server.url + "/v1", api_key="k")
    server.answers.append(list(WHOLE))
    messages = [{"role": "user", "content": "zweitens: ü"}]
    options = {"stream": True, "stream_options": {"include_usage": True}, **fields}
    async for _ in await theirs.chat.completions.create(model="m", messages=messages, **options):
        pass
    await theirs.close()
    ours, expected = map(parted, server.requests)
    assert ours[1] == expected[1]
    ignored = (b"accept-encoding", b"x-stainless-raw-response")
    assert [line for line in ours[0] if not line.lower().startswith(ignored)] == [
        line for line in expected[0] if not line.lower().startswith(ignored)
    ]


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, openai.BadRequestError),
        (401, openai.AuthenticationError),
        (403, openai.PermissionDeniedError),
        (404, openai.NotFoundError),
        (429, openai.RateLimitError),
        (503, openai.InternalServerError),
    ],
)
@pytest.mark.parametrize("body", [b'{"error": {"message": "no", "code": "c"}}', b"no", b""])
async def test_a_refusal_is_the_sdks_error(asker: Asker, status: int, kind: type[Exception], body: bytes) -> None:
    head = b"HTTP/1.1 %d X\r\nretry-after: 7\r\ncontent-length: %d\r\n\r\n" % (status, len(body))
    error = await asker.fail("hi", head + body)
    assert type(error) is kind
    assert (error.status_code, error.response.headers["retry-after"]) == (status, "7")
    assert error.response.text == body.decode()
    assert error.body == ({"message": "no", "code": "c"} if body.startswith(b"{") else body.decode())


async def test_a_refusal_leaves_its_connection_for_the_next(server: Server, asker: Asker) -> None:
    await asker.ask()
    await asker.fail("no", b"HTTP/1.1 429 X\r\ncontent-length: 2\r\n\r\nno")
    await asker.ask()
    assert server.connections == 1


async def test_a_refusal_that_breaks_off_is_a_broken_connection(server: Server, asker: Asker) -> None:
    broken = [b"HTTP/1.1 500 X\r\ncontent-length: 9\r\n\r\nno", None]
    server.answers.append(list(broken))
    with pytest.raises(openai.APIConnectionError):
        await asker.ask("hi", *broken)


async def test_retries_are_the_sdks_where_they_are_configured(server: Server) -> None:
    asker = Asker(server, max_retries=1)
    server.answers.append([b"HTTP/1.1 429 X\r\nretry-after-ms: 1\r\ncontent-length: 0\r\n\r\n"])
    assert (await asker.ask()).events == [("text", "a")]
    await asker.client.close()
    assert len(server.requests) == 2


async def test_headers_of_the_configuration_are_sent(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "x-other: o")
    asker = Asker(server, default_headers={"X-Tenant": "t"}, organization="o")
    await asker.ask()
    await asker.client.close()
    for header in (b"x-tenant: t\r\n", b"x-other: o\r\n", b"openai-organization: o\r\n"):
        assert header in server.requests[0].lower()


async def test_another_transport_is_read_too(server: Server) -> None:
    async with httpx2.AsyncClient() as other:
        asker = Asker(server, http_client=other)
        assert (await asker.ask()).events == [("text", "a")]
        await asker.client.close()


@pytest.mark.parametrize("deployment", [{"azure_deployment": "d"}, {}])
async def test_azures_client_asks_its_deployment(server: Server, deployment: dict[str, str]) -> None:
    client = StreamingAzureOpenAIClient(
        model="m/1",
        azure_endpoint=server.url,
        api_version="2024-10-21",
        api_key="k",
        max_retries=0,
        model_info=INFO,
        **deployment,
    )
    server.answers.append(list(WHOLE))
    await client.stream(Recording(), {"messages": [HI]})
    await client.close()
    name = b"d" if deployment else b"m%2F1"
    path = b"POST /openai/deployments/%b/chat/completions?api-version=2024-10-21 HTTP/1.1\r\n" % name
    assert server.requests[0].startswith(path)
    assert b"\r\napi-key: k\r\n" in server.requests[0]


async def test_a_key_that_is_made_for_each_request_is(server: Server) -> None:
    keys = iter(["k1", "k2"])

    async def key() -> str:
        return next(keys)

    asker = Asker(server, api_key=key)
    for _ in range(2):
        await asker.ask()
    await asker.client.close()
    assert [b"authorization: bearer k%d" % n in server.requests[n - 1].lower() for n in (1, 2)] == [True, True]


@pytest.mark.parametrize("status", [307, 308])
async def test_a_redirect_within_the_origin_is_followed_once(server: Server, asker: Asker, status: int) -> None:
    moved = b"HTTP/1.1 %d X\r\nlocation: /v2/chat/completions\r\ncontent-length: 0\r\n\r\n" % status
    server.answers += [[moved]]
    assert (await asker.ask()).events == [("text", "a")]
    assert [request.split(b" ")[1][:4] for request in server.requests] == [b"/v1/", b"/v2/"]
    assert parted(server.requests[1])[1] == parted(server.requests[0])[1]
    server.answers += [[moved]]
    with pytest.raises(openai.APIConnectionError) as failed:
        await asker.ask("hi", moved)
    assert "more than once" in str(failed.value.__cause__)
    assert len(server.requests) == 4


async def test_a_kept_connection_that_the_server_closes_on_the_request_is_replaced_once(
    server: Server, asker: Asker
) -> None:
    await asker.ask()
    server.answers.append([None])
    assert (await asker.ask()).events == [("text", "a")]
    assert (server.connections, len(server.requests)) == (2, 3)
    server.answers.append([None])
    with pytest.raises(openai.APIConnectionError):
        await asker.ask("hi", None)
    assert len(server.requests) == 5


async def test_a_server_that_says_nothing_is_a_timeout_and_is_not_asked_again(server: Server) -> None:
    asker = Asker(server, timeout=2)
    with pytest.raises(openai.APITimeoutError):
        await asker.ask("hi", asyncio.Event())
    await asker.client.close()
    assert len(server.requests) == 1


async def test_a_conversation_is_not_kept_for_as_long_as_its_reply_takes(server: Server, asker: Asker) -> None:
    text = "x" * 1_000_000
    go_on = asyncio.Event()
    event = b'data: {"choices": [{"delta": {"content": "a"}, "finish_reason": "stop"}]}\n\n'
    recording = Recording()
    server.answers.append([CHUNKED + chunk(event), go_on, END])
    writing = asyncio.create_task(asker.client.stream(recording, {"messages": [{**HI, "content": text}]}))
    await until(lambda: recording.events)
    gc.collect()
    kept = [found for found in gc.get_objects() if isinstance(found, httpx2.Request | dict)]
    assert not [one for one in kept if text in (one.values() if isinstance(one, dict) else [one.content.decode()])]
    go_on.set()
    await writing
