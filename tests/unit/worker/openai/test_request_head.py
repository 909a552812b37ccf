"""Requests made like an earlier one, against a server that keeps what it was sent."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import openai
import pytest
from autogen_core.models import CreateResult, ModelFamily, ModelInfo, UserMessage
from autogen_core.tools import ToolSchema

from tests.harness.scripted import CHUNKED, END, Part, Server, chunk, listening
from worker.openai.client import StreamingAzureOpenAIClient, StreamingOpenAIClient, http_client
from worker.openai.request_head import KINDS, PreparedRequests

INFO = ModelInfo(
    vision=False, function_calling=True, json_output=True, family=ModelFamily.UNKNOWN, structured_output=True
)
TOOL = ToolSchema(name="f", description="é", parameters={"type": "object", "properties": {}})
REPLY = chunk(b'data: {"choices": [{"delta": {"content": "a"}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n')
WHOLE: list[Part] = [CHUNKED + REPLY + END]


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    async with listening(made.serve) as made.url:
        yield made


class Asker:
    """A model client, and how many of its requests went through the SDK."""

    def __init__(self, server: Server, **config: Any) -> None:
        given = {"model": "m", "base_url": server.url + "/v1", "api_key": "k", "max_retries": 0, "model_info": INFO}
        self.server = server
        self.client = StreamingOpenAIClient(**{**given, **config})
        self.by_sdk = 0
        self.count(self.client._client)

    def count(self, sdk: Any) -> None:
        build = sdk._build_request

        def counting(*args: Any, **kwargs: Any) -> Any:
            self.by_sdk += 1
            return build(*args, **kwargs)

        sdk._build_request = counting

    async def ask(self, text: str = "hi", *answer: Part, **arguments: Any) -> CreateResult:
        self.server.answers.append(list(answer or WHOLE))
        *_, result = [
            piece async for piece in self.client.create_stream([UserMessage(content=text, source="user")], **arguments)
        ]
        assert isinstance(result, CreateResult)
        return result

    async def fail(self, text: str, *answer: Part, **arguments: Any) -> openai.APIStatusError:
        with pytest.raises(openai.APIStatusError) as failed:
            await self.ask(text, *answer, **arguments)
        return failed.value


@pytest.fixture
async def asker(server: Server) -> AsyncIterator[Asker]:
    made = Asker(server)
    yield made
    await made.client.close()


def parted(request: bytes) -> tuple[list[bytes], Any]:
    """A request's head, without its length, and its body."""
    head, _, body = request.partition(b"\r\n\r\n")
    return [line for line in head.split(b"\r\n") if not line.startswith(b"content-length")], json.loads(body)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"tools": [TOOL], "tool_choice": "required"},
        {"json_output": True},
        {"extra_create_args": {"temperature": 0.5, "stop": ["é"], "seed": 2**53}},
        {"extra_create_args": {"response_format": {"type": "json_object"}, "logprobs": True}},
        {"extra_create_args": {"extra_body": {"cache_prompt": True}}},
        {"include_usage": False},
    ],
    ids=repr,
)
async def test_the_second_request_of_a_kind_is_what_the_sdk_would_send(
    server: Server, asker: Asker, arguments: dict[str, Any]
) -> None:
    await asker.ask("first", **arguments)
    await asker.ask("zweitens: ü", **arguments)
    assert asker.by_sdk == 1
    fresh = Asker(server)
    await fresh.ask("zweitens: ü", **arguments)
    await fresh.client.close()
    first, second, expected = map(parted, server.requests)
    assert second[0] == first[0]
    assert second == expected


async def test_other_arguments_go_through_the_sdk_first(server: Server, asker: Asker) -> None:
    for arguments in ({}, {"tools": [TOOL]}, {"extra_create_args": {"temperature": 1}}):
        for _ in range(2):
            await asker.ask("hi", **arguments)
    assert asker.by_sdk == 3
    assert [parted(request)[1].get("temperature") for request in server.requests] == [None] * 4 + [1, 1]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 409, 422, 429, 500, 503])
@pytest.mark.parametrize("body", [b'{"error": {"message": "no", "code": "c", "param": "p", "type": "t"}}', b"no", b""])
async def test_a_refusal_is_the_sdks_error(server: Server, asker: Asker, status: int, body: bytes) -> None:
    head = b"HTTP/1.1 %d X\r\nretry-after: 7\r\nx-request-id: r\r\ncontent-length: %d\r\n\r\n" % (status, len(body))
    expected = await asker.fail("first", head + body)
    await asker.ask()
    error = await asker.fail("second", head + body)
    assert asker.by_sdk == 2
    assert type(error) is type(expected)
    for name in ("status_code", "body", "message", "code", "param", "type", "request_id"):
        assert getattr(error, name) == getattr(expected, name), name
    assert error.response.headers == expected.response.headers
    assert error.response.text == expected.response.text
    assert error.request.url == expected.request.url


async def test_a_refusal_leaves_its_connection_for_the_next(server: Server, asker: Asker) -> None:
    await asker.ask()
    await asker.fail("no", b"HTTP/1.1 429 X\r\ncontent-length: 2\r\n\r\nno")
    await asker.ask()
    assert server.connections == 1


async def test_a_refusal_that_breaks_off_is_a_broken_connection(server: Server, asker: Asker) -> None:
    await asker.ask()
    broken = [b"HTTP/1.1 500 X\r\ncontent-length: 9\r\n\r\nno", None]
    server.answers.append(list(broken))
    with pytest.raises(openai.APIConnectionError):
        await asker.ask("hi", *broken)


@pytest.mark.parametrize(
    ("config", "arguments"),
    [
        ({}, {"extra_create_args": {"timeout": 3}}),
        ({"max_retries": 1}, {}),
    ],
    ids=repr,
)
async def test_what_is_not_in_the_body_is_the_sdks_part(
    server: Server, config: dict[str, Any], arguments: dict[str, Any]
) -> None:
    asker = Asker(server, **config)
    for _ in range(3):
        await asker.ask("hi", **arguments)
    await asker.client.close()
    assert asker.by_sdk == 3


async def test_headers_that_are_not_known_are_the_sdks_part(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "x-tenant: t")
    asker = Asker(server)
    for _ in range(2):
        await asker.ask()
    await asker.client.close()
    assert asker.by_sdk == 2
    assert all(b"x-tenant: t\r\n" in request for request in server.requests)


async def test_headers_of_the_configuration_are_known(server: Server) -> None:
    asker = Asker(server, default_headers={"X-Tenant": "t"}, organization="o")
    for _ in range(2):
        await asker.ask()
    await asker.client.close()
    assert asker.by_sdk == 1
    assert parted(server.requests[0]) == parted(server.requests[1])
    assert b"x-tenant: t\r\n" in server.requests[1].lower()


async def test_another_transport_is_the_sdks_part(server: Server) -> None:
    async with httpx2.AsyncClient() as http_client:
        asker = Asker(server, http_client=http_client)
        for _ in range(2):
            await asker.ask()
        await asker.client.close()
    assert asker.by_sdk == 2


async def test_azures_client_is_the_sdks_part(server: Server) -> None:
    client = StreamingAzureOpenAIClient(
        model="m",
        azure_endpoint=server.url,
        azure_deployment="d",
        api_version="2024-10-21",
        api_key="k",
        max_retries=0,
        model_info=INFO,
    )
    for _ in range(2):
        server.answers.append(list(WHOLE))
        async for _piece in client.create_stream([UserMessage(content="hi", source="user")]):
            pass
    await client.close()
    assert client._prepared is not None
    assert not client._prepared._kinds


async def test_a_key_that_is_made_anew_for_each_request_is(server: Server) -> None:
    keys = iter(["k1", "k2"])

    async def key() -> str:
        return next(keys)

    asker = Asker(server, api_key=key)
    for _ in range(2):
        await asker.ask()
    await asker.client.close()
    assert [b"authorization: bearer k%d" % n in server.requests[n - 1].lower() for n in (1, 2)] == [True, True]


async def test_a_changed_key_is_noticed_and_learned(server: Server, asker: Asker) -> None:
    await asker.ask()
    asker.client._client.api_key = "other"
    for _ in range(3):
        await asker.ask()
    assert asker.by_sdk == 2
    assert [b"bearer other" in request.lower() for request in server.requests] == [False, True, True, True]


@pytest.mark.parametrize("status", [307, 308])
async def test_a_redirect_within_the_origin_is_followed_once(server: Server, asker: Asker, status: int) -> None:
    moved = b"HTTP/1.1 %d X\r\nlocation: /v2/chat/completions\r\ncontent-length: 0\r\n\r\n" % status
    await asker.ask()
    server.answers += [[moved]]
    assert (await asker.ask()).content == "a"
    assert asker.by_sdk == 1
    assert [request.split(b" ")[1][:4] for request in server.requests] == [b"/v1/", b"/v1/", b"/v2/"]
    assert parted(server.requests[2])[1] == parted(server.requests[1])[1]
    server.answers += [[moved]]
    with pytest.raises(openai.APIConnectionError) as failed:
        await asker.ask("hi", moved)
    assert "more than once" in str(failed.value.__cause__)
    assert len(server.requests) == 5


async def test_a_kept_connection_that_the_server_closes_on_the_request_is_replaced(
    server: Server, asker: Asker
) -> None:
    await asker.ask()
    server.answers.append([None])
    assert (await asker.ask()).content == "a"
    assert (asker.by_sdk, server.connections, len(server.requests)) == (1, 2, 3)


async def test_a_server_that_closes_every_connection_is_asked_twice(server: Server, asker: Asker) -> None:
    await asker.ask()
    server.answers += [[None]]
    with pytest.raises(openai.APIConnectionError):
        await asker.ask("hi", None)
    assert len(server.requests) == 3


async def test_a_server_that_says_nothing_is_a_timeout_and_is_not_asked_again(server: Server) -> None:
    asker = Asker(server, timeout=0.1)
    await asker.ask()
    with pytest.raises(openai.APITimeoutError):
        await asker.ask("hi", asyncio.Event())
    await asker.client.close()
    assert len(server.requests) == 2


async def test_a_request_that_is_given_up_is_not_learned_from_and_closes_its_connection(
    server: Server, asker: Asker
) -> None:
    await asker.ask()
    server.answers.append([CHUNKED + chunk(b'data: {"choices": [{"delta": {"content": "a"}}]}\n\n')])
    stream = asker.client.create_stream([UserMessage(content="hi", source="user")])
    assert await anext(stream) == "a"
    await stream.aclose()
    await asyncio.wait_for(server.closed.wait(), 5)


def prepared() -> PreparedRequests:
    client = openai.AsyncOpenAI(api_key="k", base_url="http://127.0.0.1:1", max_retries=0, http_client=http_client())
    return PreparedRequests(client, None)


def sent(arguments: dict[str, Any], **headers: str) -> httpx2.Request:
    return httpx2.Request("POST", "http://127.0.0.1:1", json={"stream": True, **arguments}, headers=headers)


def test_kinds_are_kept_within_bounds() -> None:
    kept = prepared()
    for number in range(2 * KINDS):
        kept.learn({f"a{number}": 1}, sent({f"a{number}": 1}))
    assert len(kept._kinds) == KINDS


@pytest.mark.parametrize("name", ["extra_headers", "extra_query", "timeout"])
def test_arguments_that_go_elsewhere_than_into_the_body_are_not_learned(name: str) -> None:
    kept = prepared()
    kept.learn({"a": 1, name: {"b": "c"}}, sent({"a": 1}))
    assert not kept._kinds


@pytest.mark.parametrize("name", ["x-unknown", "cookie", "idempotency-key"])
def test_a_header_that_may_be_made_anew_is_not_learned(name: str) -> None:
    kept = prepared()
    kept.learn({"a": 1}, sent({"a": 1}, **{name: "b"}))
    assert not kept._kinds
    kept.learn({"a": 1}, sent({"a": 1}, **{"x-stainless-lang": "python"}))
    assert kept._kinds


@pytest.mark.parametrize("body", [{"a": 2}, {"a": 1, "b": 2}, {}])
def test_a_body_that_we_would_not_have_sent_is_not_learned(body: dict[str, Any]) -> None:
    kept = prepared()
    kept.learn({"a": 1}, sent(body))
    assert not kept._kinds


def test_what_cannot_be_written_as_json_is_not_learned() -> None:
    kept = prepared()
    kept.learn({"a": object()}, sent({"a": 1}))
    assert not kept._kinds
