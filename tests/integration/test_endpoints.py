"""Embeddings and completions: passed on to a model that has them, and answered as it answers, but for its name."""

import asyncio
import base64
import itertools
import json
import struct
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx
import openai
import pytest
import yaml
from openai import AsyncOpenAI, OpenAI

from tests.harness.chat import JSON, PATIENCE, ask, streaming
from tests.harness.fleet import Fleet, model_entries
from tests.harness.http import Connection
from tests.harness.waiting import eventually
from tests.integration.keyed import KeyedGateway
from tests.schedule import Schedule, embedding, reply_text, reply_tokens

COMPLETIONS, EMBEDDINGS = "/v1/completions", "/v1/embeddings"
MIB = 1024 * 1024
GAP = 3.0
"""Seconds that a neighbour's stream may pause on a machine that does other things too; 0.05 is usual."""
REAL = "text-embedding-real"

Say = Callable[[str], None]
numbers = itertools.count()


def tag() -> str:
    return f"endpoint-{next(numbers)}"


def entries(backend: str, key: str) -> str:
    """``test`` has everything, ``other`` only chats, and ``vectors`` only embeddings, under another name."""
    written = model_entries(backend, key)
    models = written["models"]
    models["test"]["endpoints"] = ["chat", "completions", "embeddings"]
    models["test"]["config"] |= {"temperature": 0.5, "default_headers": {"x-entry": "said"}}
    config = {"model": REAL, "base_url": f"{backend}/v1", "api_key": key, "extra_body": {"x_entry": [1]}}
    provider = models["test"]["provider"]
    models["vectors"] = {"provider": provider, "config": config, "endpoints": ["embeddings"]}
    return yaml.safe_dump(written, sort_keys=False)


def make_fleet(workers: int, **settings: str) -> Fleet:
    fleet = Fleet(workers=0, settings=settings, start=False)
    for number in range(workers):
        add_worker(fleet, f"key-{number}")
    return fleet


def add_worker(fleet: Fleet, key: str) -> None:
    models = fleet.folder / f"{key}.yaml"
    models.write_text(entries(fleet.backend.url, key))
    fleet.new_worker(WORKER_MODELS=str(models))


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with make_fleet(2) as fleet:
        fleet.start()
        fleet.wait_until_ready(2)
        yield fleet


@pytest.fixture
def client(fleet: Fleet) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{fleet.url}/v1", api_key="none", max_retries=0, timeout=30) as client:
        yield client


@pytest.fixture
async def http(fleet: Fleet) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=fleet.url, timeout=60, trust_env=False) as client:
        yield client


def told(schedule: Schedule) -> dict[str, Any]:
    """The schedule as the field that the backend looks for."""
    return {"schedule": json.loads(schedule.message())}


# ---------------------------------------------------------------- embeddings


@pytest.mark.parametrize("given", ["a text", ["a", "b", "c"], [1, 2, 3], [[1, 2], [3]]])
@pytest.mark.parametrize("encoding", [{}, {"encoding_format": "float"}])
def test_openais_sdk_gets_embeddings(client: OpenAI, given: Any, encoding: Any) -> None:
    made = client.embeddings.create(model="test", input=given, dimensions=16, extra_body={"schedule": {}}, **encoding)
    count = len(given) if isinstance(given, list) and given != [1, 2, 3] else 1
    assert [item.index for item in made.data] == list(range(count))
    assert [item.embedding for item in made.data] == [embedding(index, 16) for index in range(count)]
    assert made.model == "test"
    assert (made.usage.prompt_tokens, made.usage.total_tokens) == (3 * count, 3 * count)


def test_embeddings_as_base64_are_passed_on(client: OpenAI) -> None:
    made = client.embeddings.create(model="test", input="a", encoding_format="base64", dimensions=4)
    raw: Any = made.data[0].embedding
    assert list(struct.unpack("<4f", base64.b64decode(raw))) == embedding(0, 4)


async def test_the_request_is_what_the_client_sent_and_the_answer_what_the_model_said(
    fleet: Fleet, http: httpx.AsyncClient
) -> None:
    schedule = Schedule(tag=tag(), seed=3)
    sent = {"input": ["é\u2028", "b"], "x_new": {"model": None, "n": 1.50}, "user": None, **told(schedule)}
    answer = await http.post(EMBEDDINGS, json={**sent, "model": "vectors"})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    record = fleet.backend.request(schedule.tag or "")
    assert record["body"] == {**sent, "model": REAL, "x_entry": [1]}
    whole = answer.json()
    assert whole["model"] == "vectors"
    assert whole["x_extra"] == {"model": "kept"}
    assert [item["embedding"] for item in whole["data"]] == [embedding(3, 8), embedding(4, 8)]


async def test_the_model_gets_the_clients_trace(fleet: Fleet, http: httpx.AsyncClient) -> None:
    schedule = Schedule(tokens=2, tag=tag())
    parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    body = {"model": "test", "prompt": schedule.message()}
    answer = await http.post(COMPLETIONS, json=body, headers={"traceparent": parent})
    answer.raise_for_status()
    assert fleet.backend.request(schedule.tag or "")["headers"]["traceparent"] == parent


async def test_the_entrys_headers_go_with_it_and_its_chat_options_do_not(fleet: Fleet, http: httpx.AsyncClient) -> None:
    schedule = Schedule(tag=tag())
    assert (await http.post(EMBEDDINGS, json={"model": "test", "input": "a", **told(schedule)})).status_code == 200
    record = fleet.backend.request(schedule.tag or "")
    assert record["headers"]["x-entry"] == "said"
    assert record["authorization"].startswith("Bearer key-")
    assert "temperature" not in record["body"]


@pytest.fixture
async def neighbour(fleet: Fleet, figures: Say) -> AsyncIterator[asyncio.Task[Any]]:
    """Another user's stream: it must be exact, and go on meanwhile."""
    schedule = Schedule(tokens=300, delay=0.01)
    begun, now = asyncio.Event(), asyncio.get_running_loop().time

    async def read() -> tuple[str, float]:
        text, last, gap = "", 0.0, 0.0
        async with streaming(fleet.address, schedule, model="test") as stream:
            while (line := await stream.line()) is not None:
                at = now()
                gap, last = max(gap, at - last if last else 0.0), at
                text += line["content"]
                begun.set()
        return text, gap

    reading = asyncio.create_task(read())
    await asyncio.wait_for(begun.wait(), PATIENCE)
    yield reading
    text, gap = await reading
    figures(f"the neighbour's longest pause was {1000 * gap:.0f} ms")
    assert text == reply_text(schedule)
    assert gap < GAP


@pytest.mark.parametrize("encoding", ["float", "base64"])
async def test_a_large_answer_streams_through(
    fleet: Fleet, neighbour: asyncio.Task[Any], figures: Say, encoding: str
) -> None:
    count, dimensions = (400, 3072) if encoding == "float" else (1500, 3072)
    body = {"model": "test", "input": ["a"] * count, "dimensions": dimensions, "encoding_format": encoding}
    members = [*fleet.gateways, *fleet.workers]
    before = [member.memory() for member in members]
    began, size, peak, text = time.monotonic(), 0, 0, bytearray()
    async with Connection(fleet.address) as connection:
        response = await connection.request("POST", EMBEDDINGS, json.dumps(body).encode(), JSON)
        assert response.status == 200
        async for chunk in response.chunks():
            text += chunk
            if len(text) - size > 4 * MIB:
                size = len(text)
                now = await asyncio.to_thread(lambda: [member.memory() for member in members])
                peak = max(peak, *(new - old for new, old in zip(now, before, strict=True)))
    took = time.monotonic() - began
    figures(f"{encoding}: {len(text) / MIB:.0f} MiB in {took:.1f} s, at most {peak / MIB:.0f} MiB more in a process")
    assert len(text) > 20 * MIB
    assert peak < 16 * MIB
    data = (await asyncio.to_thread(json.loads, text))["data"]
    assert [item["index"] for item in data] == list(range(count))
    last = data[-1]["embedding"]
    made = list(struct.unpack(f"<{dimensions}f", base64.b64decode(last))) if encoding == "base64" else last
    assert made == embedding(count - 1, dimensions)


async def test_a_client_that_does_not_read_holds_the_model_up(fleet: Fleet) -> None:
    schedule = Schedule(tag=tag())
    body = {"model": "test", "input": ["a"] * 500, "dimensions": 3072, **told(schedule)}
    async with Connection(fleet.address, limit=1024, receive_buffer=4096) as connection:
        connection.send("POST", EMBEDDINGS, json.dumps(body).encode(), JSON)
        await connection.answer()
        await asyncio.sleep(0.5)
        record = fleet.backend.request(schedule.tag or "")
        assert record["completed"] is None
    await eventually(lambda: fleet.backend.request(schedule.tag or "")["closed"], what="the model is told")


# ---------------------------------------------------------------- completions


def test_openais_sdk_gets_a_completion(fleet: Fleet, client: OpenAI) -> None:
    schedule = Schedule(tag=tag())
    made = client.completions.create(model="test", prompt=schedule.message(), max_tokens=7, suffix=None)
    assert made.choices[0].text == reply_text(schedule)
    assert made.model == "test"
    assert made.system_fingerprint == "fp_7"
    assert made.choices[0].model_extra == {"x_model": "kept"}
    assert made.usage is not None
    assert made.usage.completion_tokens == schedule.tokens
    sent = {"model": "test", "prompt": schedule.message(), "max_tokens": 7, "suffix": None}
    assert fleet.backend.request(schedule.tag or "")["body"] == sent


def test_openais_sdk_streams_a_completion(fleet: Fleet, client: OpenAI) -> None:
    schedule = Schedule(tag=tag(), tokens=200)
    options: Any = {"include_usage": True}
    chunks = list(
        client.completions.create(model="test", prompt=schedule.message(), stream=True, stream_options=options)
    )
    *texts, end, usage = chunks
    assert [chunk.choices[0].text for chunk in texts] == list(reply_tokens(schedule))
    assert {chunk.model for chunk in chunks} == {"test"}
    assert len({chunk.id for chunk in chunks}) == 1
    assert end.choices[0].finish_reason == "stop"
    assert usage.usage is not None
    assert usage.usage.completion_tokens == 200
    assert fleet.backend.request(schedule.tag or "")["body"]["stream"] is True


async def test_the_events_of_a_completion_arrive_as_they_come(http: httpx.AsyncClient) -> None:
    schedule = Schedule(tokens=9, hang_after=1)
    body = {"model": "test", "prompt": schedule.message(), "stream": True}
    async with http.stream("POST", COMPLETIONS, json=body) as answer:
        assert answer.headers["content-type"].partition(";")[0] == "text/event-stream"
        first = await anext(line async for line in answer.aiter_lines() if line.startswith("data: {"))
    assert json.loads(first.removeprefix("data: "))["choices"][0]["text"] == next(reply_tokens(schedule))


# ---------------------------------------------------------------- refusals


async def refusal(http: httpx.AsyncClient, path: str, body: Any, status: int) -> dict[str, Any]:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = await http.post(path, content=content, headers=JSON)
    error: dict[str, Any] = answer.json()["error"]
    assert answer.status_code == status, error
    assert error.keys() >= {"message", "type", "param", "code", "retryable", "request_id"}
    return error


@pytest.mark.parametrize(
    ("path", "model", "those"),
    [(EMBEDDINGS, "other", "test, vectors"), (COMPLETIONS, "vectors", "test"), (COMPLETIONS, "none", "test")],
)
async def test_a_model_without_the_endpoint_is_refused_with_those_that_have_it(
    http: httpx.AsyncClient, path: str, model: str, those: str
) -> None:
    error = await refusal(http, path, {"model": model, "input": "a"}, 404)
    assert (error["code"], error["param"]) == ("model_not_found", "model")
    assert error["message"] == f"model: {model!r} is not served at {path}; these models are: {those}"


async def test_a_model_without_chats_is_refused_there(fleet: Fleet) -> None:
    reply = await ask(fleet.address, "hello", model="vectors")
    assert reply.status == 404
    assert "these are: test, other, nowhere" in reply.error["message"]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "invalid_json"),
        (b"{", 400, "invalid_json"),
        (b"[]", 422, "invalid_field"),
        (b'{"input":"\xff","model":"test"}', 400, "invalid_json"),
        (b'{"input":NaN,"model":"test"}', 400, "invalid_json"),
        ({"input": "a"}, 422, "invalid_field"),
        ({"input": "a", "model": ""}, 422, "invalid_field"),
        ({"input": "a", "model": None}, 422, "invalid_field"),
        ({"input": "a", "model": ["test"]}, 422, "invalid_field"),
        ({"input": "a", "model": "x" * 1001}, 422, "invalid_field"),
        ({"input": "a", "model": "test", "stream": "yes"}, 422, "invalid_field"),
        ({"model": "test"} | {str(number): 0 for number in range(1001)}, 422, "invalid_field"),
        (b'{"model":"test","input":' + b"[" * 200 + b"]" * 200 + b"}", 422, "body_too_complex"),
        (b'{"model":"test","input":[' + b"1," * 1_000_000 + b"1]}", 422, "body_too_complex"),
        (b'{"model":"test","input":[' + b'{"a":1},' * 100_001 + b"1]}", 422, "body_too_complex"),
        (b'{"model":"test","input":"' + b"a" * 9 * MIB + b'"}', 413, "body_too_large"),
    ],
)
@pytest.mark.parametrize("path", [COMPLETIONS, EMBEDDINGS])
async def test_a_body_that_cannot_be_passed_on_is_refused(
    http: httpx.AsyncClient, path: str, body: Any, status: int, code: str
) -> None:
    assert (await refusal(http, path, body, status))["code"] == code


async def test_embeddings_are_not_streamed(http: httpx.AsyncClient) -> None:
    error = await refusal(http, EMBEDDINGS, {"model": "test", "input": "a", "stream": True}, 400)
    assert (error["code"], error["param"]) == ("unsupported_parameter", "stream")


async def test_what_the_model_refuses_is_refused(http: httpx.AsyncClient) -> None:
    body = {"model": "test", "input": "a", **told(Schedule(status=400))}
    assert "the model answers 400" in (await refusal(http, EMBEDDINGS, body, 400))["message"]
    prompt = Schedule(status=429, retry_after=9).message()
    for stream in (True, False):
        answer = await http.post(COMPLETIONS, json={"model": "test", "prompt": prompt, "stream": stream})
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "9")


async def test_a_large_body_reaches_the_model(
    fleet: Fleet, http: httpx.AsyncClient, neighbour: asyncio.Task[Any]
) -> None:
    schedule = Schedule(tag=tag())
    text = "é" * (3 * MIB)
    answer = await http.post(EMBEDDINGS, json={"model": "test", "input": text, **told(schedule)})
    assert answer.status_code == 200
    await neighbour  # before this loop stands still to read it back
    assert fleet.backend.request(schedule.tag or "")["body"]["input"] == text


async def test_as_many_tokens_as_openai_takes_reach_the_model(fleet: Fleet, http: httpx.AsyncClient) -> None:
    schedule = Schedule(tag=tag())
    tokens = [[number] * 500 for number in range(600)]
    answer = await http.post(EMBEDDINGS, json={"model": "test", "input": tokens, **told(schedule)})
    assert len(answer.json()["data"]) == 600
    assert fleet.backend.request(schedule.tag or "")["body"]["input"] == tokens


async def test_azures_path_names_the_model(http: httpx.AsyncClient) -> None:
    answer = await http.post("/openai/deployments/vectors/embeddings?api-version=1", json={"input": "a"})
    assert (answer.status_code, answer.json()["model"]) == (200, "vectors")


async def test_the_models_endpoints_are_shown(http: httpx.AsyncClient) -> None:
    listed = (await http.get("/v1/models")).json()["data"]
    assert [model["id"] for model in listed] == ["test", "other", "nowhere", "vectors"]
    shown = (await http.get("/fleet")).json()["workers"][0]["endpoints"]
    assert shown == {"test": ["chat", "completions", "embeddings"], "vectors": ["embeddings"]}


# ---------------------------------------------------------------- keys


def test_the_models_counts_are_charged_and_a_keys_models_hold(fleet: Fleet) -> None:
    limits: dict[str, Any] = {
        "embeds": {"tokens_per_minute": 10},
        "completes": {"tokens_per_minute": 10},
        "streams": {"tokens_per_minute": 10},
        "restricted": {"models": ["other", "test"]},
    }
    with KeyedGateway(fleet, limits) as gateway:
        with gateway.client("embeds") as client:
            bodies = [{"model": "test", "input": ["a"] * 3} for _ in range(3)]
            assert [client.post(EMBEDDINGS, json=body).status_code for body in bodies] == [200, 200, 429]
        for name, stream in (("completes", False), ("streams", True)):
            with gateway.client(name) as client:
                prompt = Schedule(tokens=4, usage={"prompt_tokens": 4, "completion_tokens": 4}).message()
                body = {"model": "test", "prompt": prompt, "stream": stream, "stream_options": {"include_usage": True}}
                assert [client.post(COMPLETIONS, json=body).status_code for _ in range(3)] == [200, 200, 429]
        with gateway.client("restricted") as client:
            assert client.post(EMBEDDINGS, json={"model": "vectors", "input": "a"}).status_code == 403
            message = client.post(EMBEDDINGS, json={"model": "other", "input": "a"}).json()["error"]["message"]
            assert message.endswith("these models are: test")
        with gateway.client() as client:
            assert client.post(EMBEDDINGS, json={"model": "test", "input": "a"}).status_code == 401


# ---------------------------------------------------------------- what goes wrong


@pytest.mark.parametrize("begun", [False, True], ids=["before its answer", "within its answer"])
@pytest.mark.parametrize("path", [COMPLETIONS, EMBEDDINGS])
async def test_a_client_that_leaves_frees_the_model(fleet: Fleet, path: str, begun: bool) -> None:
    schedule = Schedule(tag=tag(), tokens=1000, delay=0.05, first_delay=0 if begun else 60)
    body: dict[str, Any] = {"model": "test", "stream": True, "prompt": schedule.message()}
    if path == EMBEDDINGS:
        body = {"model": "test", "input": ["a"] * 1000, "dimensions": 3072, **told(schedule)}
    name = schedule.tag or ""
    async with Connection(fleet.address) as connection:
        connection.send("POST", path, json.dumps(body).encode(), JSON)
        await eventually(lambda: fleet.backend.requests(name))
        if begun:
            async with asyncio.timeout(PATIENCE):
                await anext((await connection.answer()).chunks())
    await eventually(lambda: fleet.backend.request(name)["closed"], what="the model is told")
    await eventually(fleet.is_idle, what="no worker is busy")


async def test_what_breaks_in_the_held_part_of_an_answer_is_tried_again(http: httpx.AsyncClient, fleet: Fleet) -> None:
    schedule = Schedule(tag=tag(), reset_after=2)
    error = await refusal(http, EMBEDDINGS, {"model": "test", "input": ["a"] * 5, **told(schedule)}, 502)
    assert error["retryable"] is True
    assert len(fleet.backend.requests(schedule.tag)) > 1


@pytest.mark.parametrize("schedule", [Schedule(reset_after=20), Schedule(end_after=20)], ids=["reset", "end"])
async def test_what_breaks_later_cuts_the_answer(http: httpx.AsyncClient, schedule: Schedule) -> None:
    body = {"model": "test", "input": ["a"] * 40, "dimensions": 3072, **told(schedule)}
    with pytest.raises(httpx.RemoteProtocolError):
        await http.post(EMBEDDINGS, json=body)


@pytest.mark.parametrize(
    "schedule",
    [Schedule(tokens=50, reset_after=20), Schedule(tokens=50, end_after=20), Schedule(tokens=50, error_after=20)],
    ids=["reset", "end", "error"],
)
async def test_what_breaks_within_a_stream_is_one_error_of_it(http: httpx.AsyncClient, schedule: Schedule) -> None:
    body = {"model": "test", "prompt": schedule.message(), "stream": True}
    answer = await http.post(COMPLETIONS, json=body)
    *events, last = [json.loads(line[6:]) for line in answer.text.splitlines() if line]
    assert [event["choices"][0]["text"] for event in events] == list(reply_tokens(schedule))[:20]
    assert last["error"]["retryable"] is True
    assert "[DONE]" not in answer.text


async def killed(fleet: Fleet, name: str) -> None:
    """Kill the worker that runs the request with this tag."""
    await eventually(lambda: fleet.backend.requests(name))
    key = fleet.backend.requests(name)[0]["authorization"].rpartition("-")[2]
    fleet.workers[int(key)].kill()


@pytest.fixture
def brittle() -> Iterator[Fleet]:
    with make_fleet(2, GATEWAY_REQUEST_TIMEOUT="30") as fleet:
        fleet.start()
        fleet.wait_until_ready(2)
        yield fleet


async def test_when_a_worker_dies_another_answers_unless_the_answer_had_begun(brittle: Fleet) -> None:
    first, second = Schedule(tag=tag(), first_delay=5.0), Schedule(tag=tag(), tokens=100, delay=0.1)
    async with AsyncOpenAI(base_url=f"{brittle.url}/v1", api_key="none", max_retries=0, timeout=30) as client:
        asked = asyncio.create_task(client.embeddings.create(model="test", input="a", extra_body=told(first)))
        await killed(brittle, first.tag or "")
        assert (await asked).data[0].embedding == embedding(json.loads(first.message())["seed"], 8)
        dead = next(number for number, worker in enumerate(brittle.workers) if not worker.is_alive)
        brittle.workers[dead].start()
        await eventually(lambda: len(brittle.ready_workers()) == 2, 60, "it is back")
        chunks = await client.completions.create(model="test", prompt=second.message(), stream=True)
        texts = [(await anext(chunks)).choices[0].text for _ in range(3)]
        await killed(brittle, second.tag or "")
        with pytest.raises(openai.APIError, match="worker"):
            texts.extend([chunk.choices[0].text async for chunk in chunks])
    assert texts == list(reply_tokens(second))[: len(texts)]
    assert len(brittle.backend.requests(second.tag)) == 1
