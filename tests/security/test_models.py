"""A model's server that sends what it likes: its own user gets a clear error, and the worker stays as it was."""

import asyncio
import gzip
import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack

import pytest
import yaml

from tests.harness.chat import Reply, ask, assert_complete, streaming
from tests.harness.fleet import Fleet, model_entries
from tests.harness.scripted import CHUNKED, END, OK, chunk, listening, read_request
from tests.harness.waiting import eventually
from tests.schedule import Schedule, reply_text

ATTEMPTS = 2
MIB = 1024 * 1024
MEMORY = 300 * MIB
"""Bytes that a worker may hold under attack."""
GAP = 3.0
"""Seconds without a token of another's stream, which gets one every 10 ms: 0.15 on a machine that does nothing else."""


def event(value: object) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def delta(**fields: object) -> bytes:
    return event({"choices": [{"index": 0, "delta": fields}]})


HELLO = delta(content="hello")
GZIP = b"content-encoding: gzip\r\n\r\n"
SSE = b"content-type: text/event-stream\r\n"

ANSWERS: dict[str, tuple[bytes, bytes]] = {
    "headers": (OK, b"x-a: 1\r\n" * 1000),
    "header": (OK + b"x: ", b"a" * 65536),
    "interim": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000),
    "interim headers": (b"HTTP/1.1 103 E\r\n", b"x-a: 1\r\n" * 1000),
    "trailer": (CHUNKED + chunk(HELLO) + b"0\r\nx: ", b"a" * 65536),
    "extension": (CHUNKED + chunk(HELLO) + b"1;", b"a" * 65536),
    "line": (OK + b"\r\n", b"a" * 65536),
    "event": (OK + b"\r\n" + HELLO, b"data: a\n" * 8000),
    "comments": (OK + b"\r\n", b": ping\n\n" * 8000),
    "nothing": (OK + b"\r\n", delta(content="") * 500),
    "empty calls": (OK + b"\r\n", delta(tool_calls=[{"index": 0}]) * 500),
    "calls": (OK + b"\r\n", b"".join(delta(tool_calls=[{"index": n}]) for n in range(2000))),
    "ids": (OK + b"\r\n", b"".join(delta(tool_calls=[{"index": 0, "id": each * 8192}]) for each in "ij") * 4),
    "bomb": (OK + SSE + GZIP + gzip.compress(b"\n" * 64 * MIB), b""),
    "junk": (b"what?\r\n\r\n", b""),
    "switch": (b"HTTP/1.1 101 X\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n", b""),
    "elsewhere": (b"HTTP/1.1 307 X\r\nlocation: http://127.0.0.1:1/v1\r\ncontent-length: 0\r\n\r\n", b""),
    "see other": (b"HTTP/1.1 303 X\r\nlocation: /v1\r\ncontent-length: 0\r\n\r\n", b""),
    "loop": (b"HTTP/1.1 308 X\r\nlocation: /v1/chat/completions\r\ncontent-length: 0\r\n\r\n", b""),
    "infinite": (CHUNKED + chunk(HELLO + b'data: {"choices": [], "usage": {"prompt_tokens": 1e999}}\n\n') + END, b""),
    "negative": (CHUNKED + chunk(HELLO + delta(tool_calls=[{"index": -1}])) + END, b""),
    "deep": (CHUNKED + chunk(HELLO + b"data: " + b"[" * 200_000 + b"\n\n") + END, b""),
}
"""How an answer begins, and what comes then until its client leaves. Each is no answer, or ends in the middle."""

REFUSALS: dict[str, tuple[bytes, bytes]] = {
    "refusal": (b"HTTP/1.1 400 X\r\n\r\n", b"a" * 65536),
    "packed refusal": (b"HTTP/1.1 400 X\r\n" + GZIP + gzip.compress(bytes(256 * MIB)), b""),
}


class Hostile:
    """A model's server in a thread: what the user asked for by name is what it does."""

    def __init__(self) -> None:
        self.requests: list[str] = []
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
                name = json.loads(request.partition(b"\r\n\r\n")[2])["messages"][-1]["content"]
                self.requests.append(name)
                begin, rest = (ANSWERS | REFUSALS)[name]
                writer.write(begin)
                await writer.drain()
                while rest and not writer.transport.is_closing():
                    writer.write(rest)
                    await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass


@pytest.fixture(scope="module")
def hostile() -> Iterator[Hostile]:
    made = Hostile()
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def fleet(hostile: Hostile) -> Iterator[Fleet]:
    """A worker that serves a good model and a hostile one."""
    made = Fleet(workers=0, settings={"GATEWAY_MAX_ATTEMPTS": str(ATTEMPTS)}, start=False)
    models = made.folder / "hostile.yaml"
    entries = model_entries(made.backend.url, "key")
    entries["models"]["hostile"] = model_entries(hostile.url, "key")["models"]["test"]
    models.write_text(yaml.safe_dump(entries, sort_keys=False))
    made.new_worker(WORKER_MODELS=str(models))
    with made:
        made.start()
        made.wait_until_ready(1)
        yield made


@pytest.fixture
async def another(fleet: Fleet) -> AsyncIterator[None]:
    """Another user's stream on the same worker: it must be exact, and go on meanwhile."""
    schedule = Schedule(tokens=300, delay=0.01)
    begun, told = asyncio.Event(), asyncio.get_running_loop().time

    async def read() -> tuple[str, float]:
        text, last, gap = "", 0.0, 0.0
        async with streaming(fleet.address, schedule, model="test") as stream:
            while (line := await stream.line()) is not None:
                now = told()
                gap, last = max(gap, now - last if last else 0.0), now
                text += line["content"]
                begun.set()
        return text, gap

    reading = asyncio.create_task(read())
    await asyncio.wait_for(begun.wait(), 20)
    yield
    text, gap = await reading
    assert text == reply_text(schedule)
    assert gap < GAP


@pytest.mark.parametrize("name", ANSWERS)
async def test_what_is_no_answer_is_the_models_fault(fleet: Fleet, hostile: Hostile, another: None, name: str) -> None:
    asked = len(hostile.requests)
    reply = await ask(fleet.address, name, model="hostile")
    assert reply.status in (200, 502)
    assert reply.error["code"] == "model_stream_broken"
    assert reply.error["retryable"] is True
    assert len(hostile.requests) - asked <= requests_for(name, reply)
    assert fleet.workers[0].memory() < MEMORY
    assert "internal_error" not in fleet.workers[0].log()


def requests_for(name: str, reply: Reply) -> int:
    """A redirect within the origin is one request more of an attempt; what has begun is not asked for again."""
    return (1 if reply.status == 200 else ATTEMPTS) * (2 if name == "loop" else 1)


@pytest.mark.parametrize("name", REFUSALS)
async def test_a_refusal_of_any_length_is_a_refusal(fleet: Fleet, another: None, name: str) -> None:
    reply = await ask(fleet.address, name, model="hostile")
    assert (reply.status, reply.error["code"]) == (400, "model_rejected_request")
    assert fleet.workers[0].memory() < MEMORY


async def test_the_worker_serves_on_and_nothing_is_left(fleet: Fleet) -> None:
    schedule = Schedule()
    assert_complete(await ask(fleet.address, schedule, model="test"), schedule)
    await eventually(fleet.is_idle)
