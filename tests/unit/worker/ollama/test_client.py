"""The client against a server that keeps what it was sent."""

import asyncio
import json
from base64 import b64encode
from collections.abc import AsyncIterator
from typing import Any

import pytest
from autogen_core import FunctionCall, Image
from autogen_core.models import (
    AssistantMessage,
    ChatCompletionClient,
    CreateResult,
    FunctionExecutionResult,
    FunctionExecutionResultMessage,
    LLMMessage,
    SystemMessage,
    UserMessage,
)
from autogen_core.tools import ToolSchema
from pydantic import BaseModel, ValidationError

from tests.harness.scripted import CHUNKED, END, OK, Part, Server, chunk, listening
from tests.harness.waiting import until
from tests.unit.worker.ollama.test_lines import DONE, call, line
from tests.unit.worker.pictures import file, url
from tests.unit.worker.recording import Recording
from worker.contract.errors import ProviderRefused, StreamBroken, Unsupported
from worker.ollama.client import OllamaClient, server_url

HI = {"role": "user", "content": "hi"}
WHOLE: list[Part] = [CHUNKED + chunk(line(content="Hello")) + chunk(line(DONE)) + END]


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    async with listening(made.serve) as made.url:
        yield made


@pytest.fixture
async def client(server: Server) -> AsyncIterator[OllamaClient]:
    made = load(model="llama3.2", host=server.url, options={"num_ctx": 4096})
    yield made
    await made.close()


def load(**config: Any) -> OllamaClient:
    """As ``models.yaml`` does."""
    component = {"provider": "worker.ollama.client.OllamaClient", "component_type": "model", "config": config}
    made = ChatCompletionClient.load_component(component)
    assert isinstance(made, OllamaClient)
    return made


async def ask(client: OllamaClient, server: Server, *answer: Part, **body: Any) -> Recording:
    server.answers.append(list(answer or WHOLE))
    recording = Recording()
    recording.end = await client.stream(recording, {"messages": [HI], **body})
    return recording


def sent(server: Server) -> tuple[bytes, Any]:
    head, _, body = server.requests[-1].partition(b"\r\n\r\n")
    return head, json.loads(body)


async def test_a_chat_goes_to_ollamas_own_api(client: OllamaClient, server: Server) -> None:
    reply = await ask(client, server, seed=1)
    assert reply.events == [("text", "Hello")]
    head, body = sent(server)
    assert head.startswith(b"POST /api/chat HTTP/1.1\r\n")
    assert b"\r\ncontent-type: application/json" in head.lower()
    assert body == {"model": "llama3.2", "stream": True, "options": {"num_ctx": 4096, "seed": 1}, "messages": [HI]}
    assert client.actual_usage() == client.total_usage()
    assert (client.total_usage().prompt_tokens, client.total_usage().completion_tokens) == (10, 7)


async def test_connections_are_kept(client: OllamaClient, server: Server) -> None:
    for _ in range(3):
        await ask(client, server)
    assert server.connections == 1


async def test_the_configuration_does_what_it_says(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_API_KEY", "secret")
    client = load(
        model="new",
        host=server.url,
        headers={"x-a": "b"},
        keep_alive="5m",
        think=False,
        num_predict=9,
        extra_body={"new": 1},
    )
    await ask(client, server)
    head, body = sent(server)
    assert b"\r\nx-a: b" in head.lower()
    assert b"\r\nauthorization: bearer secret" in head.lower()
    assert (body["keep_alive"], body["think"], body["new"], body["options"]) == ("5m", False, 1, {"num_predict": 9})
    await client.close()
    client = load(model="new", host=server.url, headers={"Authorization": "Basic x"})
    await ask(client, server)
    assert b"secret" not in sent(server)[0]
    await client.close()


def test_a_key_that_is_not_known_is_an_error() -> None:
    with pytest.raises(ValidationError, match="keep_alife"):
        load(model="m", keep_alife=5)


def test_a_model_can_do_anything_unless_its_entry_denies_it() -> None:
    assert load(model="llama3.2").model_info["vision"]
    assert not load(model="m", model_capabilities={"vision": False}).model_info["vision"]
    info = {"vision": False, "function_calling": True, "json_output": True, "family": "x", "structured_output": True}
    assert load(model="m", model_info=info).model_info == info


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("", "http://127.0.0.1:11434"),
        ("1.2.3.4", "http://1.2.3.4:11434"),
        (":5", "http://127.0.0.1:5"),
        ("a.example:5/", "http://a.example:5"),
        ("a.example/p/", "http://a.example:11434/p"),
        ("http://a.example", "http://a.example"),
        ("https://a.example:5/p", "https://a.example:5/p"),
        ("[::1]:5", "http://[::1]:5"),
        ("http://[::1]", "http://[::1]"),
    ],
)
def test_hosts_are_written_as_ollama_writes_them(host: str, address: str) -> None:
    assert server_url(host) == address


@pytest.mark.parametrize(
    ("status", "body", "text"),
    [
        (404, b'{"error": "model \'m\' not found"}', "model 'm' not found"),
        (500, b"no JSON", "no JSON"),
        (429, b'{"error": {"message": "slow"}}', "slow"),
    ],
)
async def test_a_refusal_says_why(client: OllamaClient, server: Server, status: int, body: bytes, text: str) -> None:
    head = b"HTTP/1.1 %d X\r\nretry-after: 7\r\ncontent-length: %d\r\n\r\n" % (status, len(body))
    with pytest.raises(ProviderRefused) as refused:
        await ask(client, server, head + body)
    assert (str(refused.value), refused.value.status, refused.value.retry_after) == (text, status, 7)
    assert (await ask(client, server)).events == [("text", "Hello")]


async def test_a_cut_connection_is_no_end(client: OllamaClient, server: Server) -> None:
    with pytest.raises(StreamBroken):
        await ask(client, server, OK + b"\r\n" + line(content="Half a"), None)


async def test_cancelling_closes_the_connection(client: OllamaClient, server: Server) -> None:
    recording = Recording()
    server.answers.append([CHUNKED, chunk(line(content="a"))])
    running = asyncio.create_task(client.stream(recording, {"messages": [HI]}))
    await until(lambda: recording.events)
    running.cancel()
    await asyncio.wait([running])
    async with asyncio.timeout(5):
        await server.closed.wait()


async def test_images_go_as_data(client: OllamaClient, server: Server) -> None:
    data = file("PNG")
    parts = [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": url(data), "detail": "low"}}]
    await ask(client, server, messages=[{"role": "user", "content": parts}])
    assert sent(server)[1]["messages"] == [{"role": "user", "content": "look", "images": [b64encode(data).decode()]}]
    for bad in ("https://a.example/a.png", "data:image/png;base64,//etc/passwd"):
        parts = [{"type": "image_url", "image_url": {"url": bad}}]
        with pytest.raises(Unsupported):
            await ask(client, server, messages=[{"role": "user", "content": parts}])


async def test_nothing_is_shared_between_requests(client: OllamaClient, server: Server) -> None:
    tool = {"type": "function", "function": {"name": "secret"}}
    await ask(client, server, tools=[tool], stop=["a"], format="json")
    await ask(client, server)
    assert sent(server)[1] == {"model": "llama3.2", "stream": True, "options": {"num_ctx": 4096}, "messages": [HI]}


class Person(BaseModel):
    name: str


async def test_agents_ask_in_autogens_types(server: Server) -> None:
    client = load(model="llava", host=server.url)
    image = Image.from_uri(url(file("PNG")))
    said: list[LLMMessage] = [
        SystemMessage(content="Be exact."),
        UserMessage(content=["look", image], source="user"),
        AssistantMessage(content=[FunctionCall(id="c1", name="get", arguments="{}")], source="a", thought="hm"),
        FunctionExecutionResultMessage(content=[FunctionExecutionResult(content="4", name="get", call_id="c1")]),
    ]
    tool = ToolSchema(name="get", parameters={"type": "object", "properties": {}})
    server.answers.append(
        [CHUNKED, chunk(line(content="I ", tool_calls=[call("get", {"a": 1})])), chunk(line(DONE)), END]
    )
    pieces: list[Any] = [
        piece
        async for piece in client.create_stream(
            said, tools=[tool], json_output=Person, extra_create_args={"temperature": 0}
        )
    ]
    assert pieces[0] == "I "
    result: CreateResult = pieces[-1]
    assert isinstance(result.content, list)
    assert (result.content[0].name, result.content[0].arguments) == ("get", '{"a":1}')
    assert (result.finish_reason, result.usage.completion_tokens) == ("function_calls", 7)
    body = sent(server)[1]
    assert [message["role"] for message in body["messages"]] == ["system", "user", "assistant", "tool"]
    assert body["messages"][1]["images"]
    assert body["messages"][3] == {"role": "tool", "content": "4", "tool_call_id": "c1", "tool_name": "get"}
    assert (body["format"], body["options"]) == (Person.model_json_schema(), {"temperature": 0})
    assert body["tools"] == [{"type": "function", "function": tool}]
    server.answers.append(list(WHOLE))
    assert (await client.create([UserMessage(content="hi", source="user")])).content == "Hello"
    await client.close()
