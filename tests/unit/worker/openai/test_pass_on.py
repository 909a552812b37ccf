"""Requests to other endpoints, against a server that keeps what it was sent."""

import gzip
import json
import secrets
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest

from protos import chat_pb2 as pb
from tests.harness.scripted import CHUNKED, END, OK, Server, chunk, listening
from tests.unit.worker.openai.test_client import INFO
from tests.unit.worker.recording import Recording
from worker.openai.client import Streaming, StreamingAzureOpenAIClient, StreamingOpenAIClient

ANSWER = b'{"data":[],"model":"m","usage":{"prompt_tokens":3,"total_tokens":3}}'
WHOLE = OK + b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(ANSWER), ANSWER)
CONFIG: dict[str, Any] = {"model": "m", "api_key": "k", "max_retries": 0, "model_info": INFO, "temperature": 0.5}


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    async with listening(made.serve) as made.url:
        yield made


async def passed_on(client: Streaming, endpoint: str, *, streamed: bool = False, **body: Any) -> Recording:
    recording = Recording()
    try:
        recording.end = await client.pass_on(recording, endpoint, body, "public", streamed=streamed)
    finally:
        await client.close()
    return recording


def sent(server: Server) -> tuple[str, dict[str, Any]]:
    (request,) = server.requests
    head, _, body = request.partition(b"\r\n\r\n")
    return head.split()[1].decode(), json.loads(body)


async def test_a_request_has_the_models_name_and_what_the_client_sent(server: Server) -> None:
    server.answers = [[WHOLE]]
    client = StreamingOpenAIClient(**CONFIG, base_url=f"{server.url}/v1", default_headers={"x-a": "b"})
    recording = await passed_on(client, "embeddings", input="a", timeout=1, extra_body={"a": 1})
    assert sent(server) == ("/v1/embeddings", {"model": "m", "input": "a", "timeout": 1, "extra_body": {"a": 1}})
    assert b"x-a: b" in server.requests[0].lower()
    assert recording.end == pb.Done(finish_reason="stop", usage=pb.Usage(prompt_tokens=3))
    assert recording.events == [("custom", pb.Custom(kind="answer", json=ANSWER.decode().replace('"m"', '"public"')))]


async def test_an_entrys_extra_body_goes_with_it_and_yields_to_the_client(server: Server) -> None:
    server.answers = [[WHOLE]]
    extra = {"provider": {"only": ["a"]}, "user": "entry", "model": "other"}
    client = StreamingOpenAIClient(**CONFIG, base_url=f"{server.url}/v1", extra_body=extra)
    await passed_on(client, "embeddings", user="client")
    assert sent(server)[1] == {"provider": {"only": ["a"]}, "user": "client", "model": "m"}


async def test_a_compressed_answer_is_passed_on(server: Server) -> None:
    answer = b'{"data":["' + secrets.token_hex(200_000).encode() + b'"],"model":"m"}'
    packed = gzip.compress(answer)
    head = OK + b"content-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(packed)
    server.answers = [[head, *(packed[at : at + 50_000] for at in range(0, len(packed), 50_000))]]
    client = StreamingOpenAIClient(**CONFIG, base_url=f"{server.url}/v1")
    recording = await passed_on(client, "embeddings", input="a")
    parts = [part.json for _, part in recording.events if isinstance(part, pb.Custom)]
    assert "".join(parts) == answer.decode().replace('"m"}', '"public"}')
    assert len(parts) > 10


@pytest.mark.parametrize(
    ("config", "path"),
    [
        ({"azure_deployment": "d"}, "/openai/deployments/d/embeddings?api-version=1"),
        ({}, "/openai/deployments/m/embeddings?api-version=1"),
    ],
)
async def test_azure_has_a_path_for_each_deployment(server: Server, config: dict[str, str], path: str) -> None:
    server.answers = [[WHOLE]]
    client = StreamingAzureOpenAIClient(**CONFIG, azure_endpoint=server.url, api_version="1", **config)
    await passed_on(client, "embeddings", input="a")
    assert sent(server)[0] == path


async def test_events_are_read_as_events_only_where_they_were_asked_for(server: Server) -> None:
    stream = CHUNKED.replace(b"\r\n\r\n", b"\r\ncontent-type: text/event-stream; charset=utf-8\r\n\r\n")
    events = chunk(b'data: {"model":"m","choices":[]}\n\n') + chunk(b"data: [DONE]\n\n") + END
    server.answers = [[stream + events]]
    client = StreamingOpenAIClient(**CONFIG, base_url=f"{server.url}/v1")
    recording = await passed_on(client, "completions", streamed=True, stream=True)
    assert recording.events == [("custom", pb.Custom(kind="answer", json='data: {"model":"public","choices":[]}\n\n'))]
    server.answers = [[WHOLE]]
    client = StreamingOpenAIClient(**CONFIG, base_url=f"{server.url}/v1")
    recording = await passed_on(client, "completions", streamed=True, stream=True)
    ((_, part),) = recording.events
    assert isinstance(part, pb.Custom)
    assert part.json.startswith('data: {"data":[]')


async def test_a_refusal_is_the_sdks_error(server: Server) -> None:
    server.answers = [[b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"]]
    with pytest.raises(openai.NotFoundError):
        await passed_on(StreamingOpenAIClient(**CONFIG, base_url=f"{server.url}/v1"), "embeddings")
