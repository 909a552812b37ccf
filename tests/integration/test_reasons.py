"""What a model's provider says when it refuses or fails reaches the client and the log, and is not asked for again."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from typing import Any

import openai
import pytest
import yaml

from tests.harness.chat import Reply, ask
from tests.harness.fleet import Fleet, model_entries
from tests.harness.scripted import listening, read_request

KEY = "own-key-of-the-worker"
CHUNK = {"choices": [{"index": 0, "delta": {"content": "Hello"}, "finish_reason": None}]}
LAST = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}


def refusal(status: int, body: object, *headers: str) -> bytes:
    data = json.dumps(body).encode() if not isinstance(body, bytes) else body
    lines = [f"HTTP/1.1 {status} X", "content-type: application/json", f"content-length: {len(data)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + data


def stream(*events: object) -> bytes:
    data = b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)
    return refusal(200, data + b"data: [DONE]\n\n")


GOOD = stream(CHUNK, LAST)


class Provider:
    """Says the next of ``answers`` to each request, and the last one from then on. Runs in a thread."""

    def __init__(self) -> None:
        self.url = ""
        self.answers = [GOOD]
        self.requests = 0
        self._loop = asyncio.new_event_loop()
        self._stack = AsyncExitStack()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def __enter__(self) -> "Provider":
        self._thread.start()
        entered = self._stack.enter_async_context(listening(self._serve))
        self.url = asyncio.run_coroutine_threadsafe(entered, self._loop).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stack.aclose(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def say(self, *answers: bytes) -> None:
        self.answers = list(answers)
        self.requests = 0

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                await read_request(reader)
                self.requests += 1
                writer.write(self.answers.pop(0) if len(self.answers) > 1 else self.answers[0])
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with Provider() as made:
        yield made


@pytest.fixture(scope="module")
def fleet(provider: Provider) -> Iterator[Fleet]:
    """Two workers with the same way to one provider."""
    made = Fleet(workers=0, start=False)
    models = made.folder / "same.yaml"
    entries = model_entries(provider.url, KEY)
    entries["models"]["odd"] = model_entries(provider.url, KEY)["models"]["test"]
    entries["models"]["odd"]["config"]["base_url"] = "htp://127.0.0.1/v1"
    models.write_text(yaml.safe_dump(entries, sort_keys=False))
    for _ in range(2):
        made.new_worker(WORKER_MODELS=str(models))
    with made:
        made.start()
        made.wait_until_ready(2)
        yield made


@pytest.fixture
async def sdk(fleet: Fleet) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{fleet.url}/v1", api_key="none") as client:
        yield client


async def create(client: openai.AsyncOpenAI, **fields: Any) -> Any:
    return await client.chat.completions.create(model="test", messages=[{"role": "user", "content": "hi"}], **fields)


def failed(fleet: Fleet, code: str) -> str:
    """The last line of a worker about a failure of this code."""
    lines = [line for worker in fleet.workers for line in worker.log().splitlines() if f"code={code}" in line]
    return max(lines)


async def refused(fleet: Fleet, **fields: Any) -> Reply:
    return await ask(fleet.address, "hi", **fields)


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (400, {"code": "context_length_exceeded", "type": "invalid_request_error"}, openai.BadRequestError),
        (400, {"code": "content_filter", "type": None}, openai.BadRequestError),
        (404, {"code": "model_not_found", "type": "invalid_request_error"}, openai.NotFoundError),
        (409, {"code": "busy", "type": "conflict"}, openai.ConflictError),
        (422, {"code": "odd", "type": "invalid"}, openai.UnprocessableEntityError),
        (429, {"code": "insufficient_quota", "type": "insufficient_quota"}, openai.RateLimitError),
    ],
)
async def test_an_sdk_raises_what_it_raises_without_a_fleet(
    provider: Provider,
    sdk: openai.AsyncOpenAI,
    status: int,
    error: dict[str, Any],
    kind: type[openai.APIStatusError],
    whole: bool,
) -> None:
    provider.say(refusal(status, {"error": {"message": "REASON", "param": "messages", "inner": {"a": 1}, **error}}))
    with pytest.raises(kind) as raised:
        await create(sdk.with_options(max_retries=0), stream=not whole)
    assert raised.value.code == error["code"]
    assert raised.value.param == "messages"
    assert raised.value.type == (error["type"] or "invalid_request_error")
    assert isinstance(raised.value.body, dict)
    assert raised.value.body["message"].endswith("REASON")
    assert raised.value.body["inner"] == {"a": 1}
    assert raised.value.response.headers["x-attempts"] == "1"
    assert provider.requests == 1


async def test_the_seeds_clients_get_a_providers_words_as_fields(provider: Provider, fleet: Fleet) -> None:
    provider.say(refusal(400, {"error": {"message": "REASON", "code": "c", "type": "t", "param": "p"}}))
    reply = await refused(fleet)
    assert (reply.status, reply.error["code"]) == (400, "model_rejected_request")
    assert reply.error["provider"] == {"status": 400, "code": "c", "type": "t", "param": "p"}


@pytest.mark.parametrize("status", [400, 401, 403, 404, 500, 503])
async def test_the_log_says_why_without_a_key(provider: Provider, fleet: Fleet, status: int) -> None:
    provider.say(refusal(status, {"error": {"message": f"REASON{status} {KEY} sk-1234 https://me:pw@inner/v1"}}))
    reply = await refused(fleet)
    line = failed(fleet, reply.error["code"])
    assert f"host={provider.url.removeprefix('http://')}" in line
    assert f"HTTP {status}: REASON{status} *** *** https://***@inner/v1" in line
    assert not [word for word in (KEY, "sk-1234", "me:pw") if word in str(reply.lines) + line]
    assert f"REASON{status} *** ***" in reply.error["message"]
    assert reply.status == {500: 502, 401: 502, 403: 502}.get(status, status)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("nowhere", "connection refused"),
        ("odd", "its base_url must begin with http:// or https://"),
    ],
)
async def test_what_cannot_be_reached_and_why(fleet: Fleet, model: str, words: str) -> None:
    reply = await refused(fleet, model=model)
    assert (reply.status, reply.error["code"]) == (502, "model_unreachable")
    assert reply.error["message"] == f"the model cannot be reached: {words}"
    line = failed(fleet, "model_unreachable")
    assert f"model={model}" in line
    assert f'reason="{words}"' in line


@pytest.mark.parametrize("started", [False, True], ids=["before the first event", "after it"])
@pytest.mark.parametrize(
    ("error", "status", "code", "retryable"),
    [
        ({"code": 429, "message": "REASON"}, 429, "model_rate_limited", True),
        ({"code": "context_length_exceeded", "message": "REASON"}, 400, "model_rejected_request", False),
        ({"type": "overloaded_error", "message": "REASON"}, 503, "model_failed", True),
        ({"code": "insufficient_quota", "message": "REASON"}, 429, "model_quota_exhausted", False),
    ],
)
async def test_an_error_in_a_stream_means_what_its_status_means(
    provider: Provider, fleet: Fleet, error: dict[str, Any], status: int, code: str, retryable: bool, started: bool
) -> None:
    provider.say(stream(*([CHUNK] if started else []), {"error": error}))
    reply = await refused(fleet)
    assert reply.status == (200 if started else status)
    assert (reply.error["code"], reply.error["retryable"]) == (code, retryable)
    assert reply.error["message"].endswith("REASON")
    assert reply.error["provider"]["status"] == status


@pytest.mark.parametrize(
    ("status", "header", "waits"),
    [(429, "retry-after: 20", "20"), (429, "retry-after-ms: 20500", "21"), (503, "retry-after: 30", "30")],
)
async def test_a_wait_is_told_to_the_client_and_the_provider_is_left_alone(
    provider: Provider, fleet: Fleet, status: int, header: str, waits: str
) -> None:
    provider.say(refusal(status, {"error": {"message": "slow"}}, header))
    reply = await refused(fleet)
    assert (reply.status, reply.headers["retry-after"], reply.headers["x-attempts"]) == (status, waits, "1")
    assert provider.requests == 1


async def test_a_short_wait_is_waited_for(provider: Provider, fleet: Fleet) -> None:
    provider.say(refusal(429, {"error": {"message": "slow"}}, "retry-after: 0.5"), GOOD)
    reply = await refused(fleet)
    assert (reply.status, reply.text, reply.headers["x-attempts"]) == (200, "Hello", "2")


@pytest.mark.parametrize("streamed", [True, False])
async def test_every_answer_says_how_many_attempts_it_took(provider: Provider, fleet: Fleet, streamed: bool) -> None:
    provider.say(GOOD)
    assert (await refused(fleet, stream=streamed)).headers["x-attempts"] == "1"
    provider.say(refusal(500, {}), GOOD)
    assert (await refused(fleet, stream=streamed)).headers["x-attempts"] == "2"
    assert (await refused(fleet, model="of-no-one")).headers["x-attempts"] == "0"


@pytest.mark.parametrize(("status", "calls"), [(500, 2), (503, 2), (429, 3)])
async def test_retries_do_not_multiply(provider: Provider, sdk: openai.AsyncOpenAI, status: int, calls: int) -> None:
    """A stock client makes three calls itself. What was repeated here is not repeated by it."""
    provider.say(refusal(status, {"error": {"message": "no"}}))
    with pytest.raises(openai.APIStatusError):
        await create(sdk)
    assert provider.requests == calls


@pytest.mark.parametrize("status", [401, 402, 403, 404])
async def test_a_final_refusal_is_final(provider: Provider, sdk: openai.AsyncOpenAI, status: int) -> None:
    provider.say(refusal(status, {"error": {"message": "no"}}))
    with pytest.raises(openai.APIStatusError):
        await create(sdk)
    assert provider.requests == 1
