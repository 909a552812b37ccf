"""Recorded streams of models: the reply is the same, whichever way they are read."""

import asyncio
import contextlib
import gzip
import itertools
import json
import secrets
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from autogen_core import CancellationToken, FunctionCall
from autogen_core.models import CreateResult, ModelFamily, ModelInfo, UserMessage
from autogen_ext.models.openai import OpenAIChatCompletionClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleet.lane import CREDIT, Inbox, Outbox, payload_bytes
from fleet.process.turns import Turns
from protos import chat_pb2 as pb
from tests.harness.scripted import CHUNKED, END, OK, Part, Server, chunk, listening
from tests.harness.waiting import until
from tests.unit.worker.recording import Recording
from worker.contract.images import Images
from worker.contract.observer import Observer
from worker.openai.client import StreamingOpenAIClient
from worker.services.model import ModelService
from worker.serving.run import Run
from worker.wire.pacer import Pacer

INFO = ModelInfo(
    vision=False, function_calling=True, json_output=True, family=ModelFamily.UNKNOWN, structured_output=True
)
INTERVAL = 0.002
MESSAGES = [UserMessage(content="hi", source="user")]


def event(finish_reason: str | None = None, logprobs: Any = None, usage: Any = None, **delta: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason, "logprobs": logprobs}
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 17, "model": "m"}
    return b"data: " + json.dumps({**head, "choices": [choice], "usage": usage}).encode() + b"\n\n"


def text(content: str) -> bytes:
    return event(content=content)


def call(index: int, **function: str) -> bytes:
    begin = {"id": f"c{index}", "type": "function"} if "name" in function else {}
    return event(tool_calls=[{"index": index, **begin, "function": function}])


ROLE = event(role="assistant", content="")
STOP = event("stop")
DONE = b"data: [DONE]\n\n"
USAGE = (
    b"data: "
    + json.dumps(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion.chunk",
            "created": 17,
            "model": "m",
            "choices": [],
            "usage": {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12},
        }
    ).encode()
    + b"\n\n"
)
ERROR = b'data: {"error": {"message": "overloaded", "type": "server_error"}}\n\n'
WORDS = [text(f"w{number} ") for number in range(8)]
LOGPROBS: dict[str, Any] = {
    "content": [{"token": "a", "logprob": -0.1, "bytes": None, "top_logprobs": []}],
    "refusal": None,
}

COMPLETE: dict[str, list[bytes]] = {
    "text": [ROLE, *WORDS, STOP, USAGE, DONE],
    "all at once": [b"".join([ROLE, *WORDS, STOP, USAGE, DONE])],
    "several in a read": [ROLE + WORDS[0], b"".join(WORDS[1:4]), b"".join(WORDS[4:]) + STOP, USAGE + DONE],
    "done in the read of the last text": [ROLE, *WORDS[:7], WORDS[7] + event("stop", content="!") + DONE],
    "text with the finish reason": [ROLE, *WORDS, event("length", content="end"), DONE],
    "text that looks the same after it": [ROLE, event("stop", content="a"), event("stop", content="b"), DONE],
    "tool calls": [
        ROLE,
        *WORDS[:3],
        call(0, name="f", arguments=""),
        call(0, arguments='{"a":'),
        call(0, arguments=" 1}"),
        call(1, name="g", arguments="{}"),
        event("tool_calls"),
        DONE,
    ],
}
"""What AutoGen's own client understands too."""

OTHERS: dict[str, list[bytes]] = {
    "reasoning": [ROLE, event(reasoning_content="h"), event(reasoning_content="m"), *WORDS, STOP, DONE],
    "reasoning between": [ROLE, *WORDS[:3], event(reasoning_content="hm"), *WORDS[3:], STOP, DONE],
    "refusal": [ROLE, event(refusal="I "), event(refusal="cannot"), STOP, DONE],
    "log probabilities": [ROLE, *[event(content="a", logprobs=LOGPROBS)] * 4, *WORDS, STOP, DONE],
    "usage with every chunk": [
        *[event(content="a", usage={"prompt_tokens": 5, "completion_tokens": n}) for n in range(1, 6)],
        STOP,
        DONE,
    ],
    "empty texts": [ROLE, *WORDS[:3], text(""), text(""), *WORDS[3:], text("") + WORDS[0], WORDS[1] + text(""), STOP],
    "a character cut in two": [ROLE, *WORDS[:3], text("a\ud83d"), text("\ude00b"), *WORDS[3:], STOP, DONE],
    "half a character": [ROLE, *WORDS[:3], text("\ud83d"), *WORDS[3:], STOP, DONE],
    "half a character at the end": [ROLE, *WORDS[:3], text("\ud83d"), STOP, DONE],
    "carriage returns": [part.replace(b"\n", b"\r\n") for part in [ROLE, *WORDS, STOP, DONE]],
    "pings": [ROLE, *WORDS[:3], b": ping\n\n", WORDS[3] + b": ping\n\n" + WORDS[4], *WORDS[5:], STOP, DONE],
    "events cut in two": [
        ROLE,
        *WORDS[:3],
        WORDS[3][:30],
        WORDS[3][30:] + WORDS[4],
        WORDS[5] + WORDS[6][:-1],
        WORDS[6][-1:] + WORDS[7],
        STOP,
        DONE,
    ],
    "another id": [ROLE, *WORDS[:4], *[part.replace(b"chatcmpl-1", b"chatcmpl-2") for part in WORDS], STOP, DONE],
    "no done": [ROLE, *WORDS, STOP],
    "no last blank line": [ROLE, *WORDS, STOP[:-2]],
    "an error": [ROLE, *WORDS, ERROR],
    "an error in the read of text": [ROLE, *WORDS[:4], WORDS[4] + ERROR],
    "an error in the first read": [ROLE + WORDS[0] + ERROR],
    "no finish reason": [ROLE, *WORDS],
    "no chunks": [ROLE, *WORDS, b"data: what?\n\n"],
    "a list of texts": [ROLE, *WORDS, event(content=["a"]), STOP, DONE],
}
STREAMS = COMPLETE | OTHERS


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    made.pause = 0.003
    async with asyncio.timeout(20), listening(made.serve) as made.url:
        yield made


def client(server: Server, kind: type[OpenAIChatCompletionClient] = StreamingOpenAIClient) -> Any:
    return kind(model="m", base_url=server.url, api_key="k", max_retries=0, model_info=INFO)


def framed(parts: Sequence[bytes]) -> list[Part]:
    return [CHUNKED, *[chunk(part) for part in parts], END]


def compressed(parts: Sequence[bytes]) -> list[Part]:
    """The stream as a body that cannot be pushed."""
    body = gzip.compress(b"".join(parts))
    return [OK + b"content-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(body) + body]


async def stock(server: Server, parts: Sequence[bytes]) -> CreateResult:
    server.answers.append(framed(parts))
    theirs = client(server, OpenAIChatCompletionClient)
    *_, result = [
        piece
        async for piece in theirs.create_stream(MESSAGES, extra_create_args={"stream_options": {"include_usage": True}})
    ]
    await theirs.close()
    assert isinstance(result, CreateResult)
    return result


@pytest.mark.parametrize("name", COMPLETE)
async def test_a_complete_stream_is_what_autogen_reads_in_it(server: Server, name: str) -> None:
    server.answers.append(framed(COMPLETE[name]))
    ours = client(server)
    *pieces, result = [piece async for piece in ours.create_stream(MESSAGES)]
    await ours.close()
    theirs = await stock(server, COMPLETE[name])
    assert isinstance(result, CreateResult)
    for field in ("content", "finish_reason", "usage", "thought", "cached"):
        assert getattr(result, field) == getattr(theirs, field), field
    assert "".join(pieces) == (result.content if isinstance(result.content, str) else result.thought or "")


@given(sizes=st.lists(st.integers(1, 400), min_size=1, max_size=8))
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_a_stream_is_the_same_wherever_it_is_cut(sizes: list[int]) -> None:
    whole = b"".join(STREAMS["text"])
    parts: list[bytes] = []
    for size in itertools.cycle(sizes):
        parts.append(whole[:size])
        whole = whole[size:]
        if not whole:
            break

    async def read() -> Recording:
        made = Server()
        made.pause = 0.0
        async with asyncio.timeout(20), listening(made.serve) as made.url, contextlib.aclosing(Bench(made)) as bench:
            await bench.read(framed(parts), paced=True)
        return bench.received

    found = asyncio.run(read())
    assert found.events == [("text", "".join(f"w{number} " for number in range(8)))]
    assert found.tokens == 8


# ------------------------------------------------------------ AutoGen's contract


async def test_create_stream_yields_text_only_and_the_result_has_the_reasoning(server: Server) -> None:
    server.answers.append(framed(OTHERS["reasoning"]))
    ours = client(server)
    *pieces, result = [piece async for piece in ours.create_stream(MESSAGES)]
    await ours.close()
    assert "".join(pieces) == result.content == "".join(f"w{number} " for number in range(8))
    assert result.thought == "hm"


async def test_create_stream_joins_a_call_whose_id_is_repeated(server: Server) -> None:
    part = event(tool_calls=[{"index": 0, "id": "i" * 1000, "function": {"name": "n" * 100, "arguments": "1"}}])
    server.answers.append(framed([*[part] * 50, event("tool_calls"), DONE]))
    ours = client(server)
    *_, result = [piece async for piece in ours.create_stream(MESSAGES)]
    await ours.close()
    assert result.content == [FunctionCall(id="i" * 1000, name="n" * 100, arguments="1" * 50)]


@pytest.mark.parametrize("how", ["closed", "cancelled"])
async def test_a_create_stream_that_is_abandoned_closes_its_connection(server: Server, how: str) -> None:
    server.answers.append([CHUNKED + chunk(WORDS[0])])
    ours = client(server)
    token = CancellationToken()
    stream = ours.create_stream(MESSAGES, cancellation_token=token)
    assert await anext(stream) == "w0 "
    if how == "closed":
        await stream.aclose()
    else:
        token.cancel()
        with pytest.raises(asyncio.CancelledError):
            await anext(stream)
    await server.closed.wait()
    await ours.close()


@pytest.mark.parametrize("answer", [framed, compressed])
async def test_create_stream_reads_no_further_than_its_reader(server: Server, answer: Any) -> None:
    parts = [text(secrets.token_hex(15_000)) for _ in range(100)]
    server.answers.append(answer([*parts, STOP, DONE]))
    ours = client(server)
    stream = ours.create_stream(MESSAGES)
    first = await anext(stream)
    await asyncio.sleep(0.03)  # for what must not happen
    inner = stream.ag_frame.f_locals["pieces"]
    assert len(inner.ag_frame.f_locals["collected"]._unread) < 10
    assert len(first) + sum([len(piece) async for piece in stream if isinstance(piece, str)]) == 3_000_000
    await ours.close()


@pytest.mark.parametrize("paced", [False, True])
async def test_a_connection_is_kept_though_its_responses_end_comes_after_done(server: Server, paced: bool) -> None:
    ours, pacer = client(server), Pacer(INTERVAL)
    ours.read_by(pacer if paced else None)
    transport = ours._client._client._transport.inner
    transport._tail_timeout = 20.0  # a machine may stand still for the usual second
    for _ in range(3):
        server.answers.append(framed(COMPLETE["text"]))
        await ours.stream(Recording(), {"messages": [{"role": "user", "content": "hi"}]})
        await until(lambda: not transport._ending)
    assert server.connections == 1
    pacer.close()
    await ours.close()


# ------------------------------------------------------------ the same through a run and its lane


def history() -> pb.ChatHistory:
    made = pb.ChatHistory(request_id="r", attempt=1, reply_to="g")
    made.messages.add(role=pb.ROLE_USER).content.add(text="hi")
    return made


class Bench:
    """A worker and a gateway, with a lane between them; ``consumes`` says whether the gateway's client reads."""

    def __init__(self, server: Server, consumes: bool = True) -> None:
        self.received = Recording()
        self.ends: list[pb.ReplyEvent] = []
        self._server = server
        self._consumes = consumes
        self.client = client(server)

    async def read(self, answer: list[Part], *, paced: bool) -> None:
        """Serve one request whose model answers so."""
        self.received, self.ends = Recording(), []
        self._server.answers.append(answer)
        self._inbox = Inbox("g", lambda ack, _: self._outbox.acknowledge(ack))
        self._incoming = self._inbox.open("w", "r", 1)
        self._outbox = Outbox("w", self._publish, INTERVAL)
        self._outbox.link_up()
        pacer = Pacer(INTERVAL, self._outbox.hold, self._outbox.release)
        self.client.read_by(pacer if paced else None)
        self.sink = self._outbox.open("g", "r", 1)
        try:
            await Run(
                history(), ModelService("m", self.client, "", Turns(), Images(1), Observer()), self.sink, Observer()
            ).run()
        finally:
            assert self._outbox.held is None
            assert self.sink._producer is None
            assert not pacer._reads
            pacer.close()
        await until(lambda: self.ends)

    def _publish(self, _: str, batch: pb.ChunkBatch) -> None:
        for event_ in self._inbox.receive(pb.ChunkBatch.FromString(batch.SerializeToString()))[0]:
            kind = event_.WhichOneof("event")
            event_.ClearField("position")  # it depends on what was merged
            if kind in ("done", "error", "cancelled"):
                self.ends.append(event_)
            elif kind != "accepted":
                self.received.add(event_)
            if self._consumes:
                self._incoming.consumed(payload_bytes(event_))

    async def aclose(self) -> None:
        await self.client.close()


@pytest.mark.parametrize("name", STREAMS)
async def test_a_reply_is_the_same_however_its_stream_is_read(server: Server, name: str) -> None:
    async with contextlib.aclosing(Bench(server)) as bench:
        await bench.read(framed(STREAMS[name]), paced=True)
        paced, ends = bench.received, bench.ends
        assert len(ends) == 1
        server.pause = 0.0
        for answer in (framed, compressed):
            await bench.read(answer(STREAMS[name]), paced=False)
            assert bench.received == paced
            assert bench.ends == ends


async def test_a_run_reads_its_model_up_to_the_credit(server: Server) -> None:
    async with contextlib.aclosing(Bench(server, consumes=False)) as bench:
        running = asyncio.create_task(bench.read(framed([text("x" * 1000)] * 1000), paced=True))
        await until(lambda: hasattr(bench, "sink") and not bench.sink.writable)
        await asyncio.sleep(10 * INTERVAL)  # for what must not happen
        assert CREDIT <= bench.sink._reply._written <= 2 * CREDIT
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
