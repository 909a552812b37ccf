"""What models say reaches clients: generated streams with fields that nobody here knows, through real processes."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest
import yaml

from tests.answers import Draw, Json, body, expected, stream, told, told_whole
from tests.conftest import LONG
from tests.harness.fleet import Fleet, model_entries
from tests.harness.scripted import CHUNKED, END, chunk, listening, read_request

COUNT = 2_000 if LONG else 100
AT_ONCE = 8
PATH = "/v1/chat/completions"


class Model:
    """A model's server in a thread: the last message is the seed of its answer, or the answer itself."""

    def __init__(self) -> None:
        self.url = ""
        self._loop = asyncio.new_event_loop()
        self._stack = AsyncExitStack()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def start(self) -> None:
        self._thread.start()
        entered = self._stack.enter_async_context(listening(self._serve))
        self.url = asyncio.run_coroutine_threadsafe(entered, self._loop).result(10)

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self._stack.aclose(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                request = await read_request(reader)
                content = json.loads(request.partition(b"\r\n\r\n")[2])["messages"][-1]["content"]
                await _answer(writer, _generated(int(content)) if content.isdigit() else [content.encode()])
        except (asyncio.IncompleteReadError, ConnectionError):
            pass


def _generated(seed: int) -> list[bytes]:
    draw = Draw(seed)
    return body(draw, stream(draw))


async def _answer(writer: asyncio.StreamWriter, parts: list[bytes]) -> None:
    writer.write(CHUNKED)
    for part in parts:
        writer.write(chunk(part))
        await writer.drain()
    writer.write(END)
    await writer.drain()


@pytest.fixture(scope="module")
def model() -> Iterator[Model]:
    made = Model()
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def fleet(model: Model) -> Iterator[Fleet]:
    made = Fleet(workers=0, start=False)
    models = made.folder / "scripted.yaml"
    models.write_text(yaml.safe_dump({"models": {"m": model_entries(model.url, "key")["models"]["test"]}}))
    made.new_worker(WORKER_MODELS=str(models))
    with made:
        made.start()
        made.wait_until_ready(1)
        yield made


@pytest.fixture
async def client(fleet: Fleet) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=fleet.url, timeout=60, trust_env=False) as client:
        yield client


def asked(content: str, **options: Any) -> Json:
    return {"model": "m", "messages": [{"role": "user", "content": content}], **options}


async def streamed(client: httpx.AsyncClient, content: str) -> list[Json]:
    options = {"stream": True, "stream_options": {"include_usage": True}}
    answer = await client.post(PATH, json=asked(content, **options))
    assert answer.status_code == 200, answer.text
    *events, done, rest = answer.text.split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    return [json.loads(event.removeprefix("data: ")) for event in events if not event.startswith(":")]


@pytest.mark.timeout(600)
async def test_every_field_of_every_stream_reaches_the_client(client: httpx.AsyncClient) -> None:
    seeds = iter(range(COUNT))

    async def exchange() -> None:
        for seed in seeds:
            chunks = stream(Draw(seed))
            assert told(await streamed(client, str(seed))) == expected(chunks, whole=False), seed
            whole = (await client.post(PATH, json=asked(str(seed)))).json()
            assert told_whole(whole) == expected(chunks, whole=True), seed

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(exchange())


def sse(*values: object) -> str:
    return "".join(f"data: {json.dumps(value)}\n\n" for value in values) + "data: [DONE]\n\n"


def delta(finish_reason: str | None = None, **fields: object) -> Json:
    return {"choices": [{"index": 0, "delta": fields, "finish_reason": finish_reason}]}


async def test_an_image_of_megabytes_arrives_whole(client: httpx.AsyncClient) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 3_000_000}}
    answer = sse(delta(content="Look"), delta(images=[image]), delta("stop"))
    assert told(await streamed(client, answer))["message"] == {"content": "Look", "images": [image]}
    message = (await client.post(PATH, json=asked(answer))).json()["choices"][0]["message"]
    assert message["images"] == [image]


async def test_a_call_whose_id_was_made_can_be_answered(client: httpx.AsyncClient) -> None:
    call = {"index": 0, "function": {"name": "f", "arguments": {}}}
    first = (await client.post(PATH, json=asked(sse(delta(tool_calls=[call]), delta("stop"))))).json()
    turn = first["choices"][0]["message"]
    (made,) = turn["tool_calls"]
    result = {"role": "tool", "tool_call_id": made["id"], "content": sse(delta(content="done"), delta("stop"))}
    messages = [{"role": "user", "content": "hi"}, turn, result]
    second = await client.post(PATH, json={"model": "m", "messages": messages})
    assert second.json()["choices"][0]["message"]["content"] == "done"


async def test_a_bad_end_is_an_error_and_an_unknown_one_is_passed_on(client: httpx.AsyncClient) -> None:
    answer = await client.post(PATH, json=asked(sse(delta(content="Half a"), delta("network_error"))))
    assert answer.status_code == 502
    assert "network_error" in answer.json()["error"]["message"]
    answer = await client.post(PATH, json=asked(sse(delta(content="a"), delta("pause_turn"))))
    assert answer.json()["choices"][0]["finish_reason"] == "pause_turn"


async def test_a_completion_where_a_stream_was_asked_for_is_the_reply(client: httpx.AsyncClient) -> None:
    choice = {"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}
    whole = json.dumps({"object": "chat.completion", "choices": [choice], "usage": {"prompt_tokens": 3}}, indent=2)
    assert told(await streamed(client, whole))["message"] == {"content": "Hello"}
    answer = await client.post(PATH, json=asked("<html>Sign in</html>"))
    assert (answer.status_code, answer.json()["error"]["retryable"]) == (502, True)
    assert "<html>Sign in</html>" in answer.json()["error"]["message"]
