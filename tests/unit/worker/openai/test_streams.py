"""Recorded streams of models: whichever way they are read, they amount to the same."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import openai
import pytest
from autogen_core.models import CreateResult, ModelFamily, ModelInfo, UserMessage
from autogen_ext.models.openai import OpenAIChatCompletionClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleet.lane import CREDIT, Inbox, Outbox, payload_bytes
from fleet.process.turns import Turns
from protos import chat_pb2 as pb
from tests.harness.scripted import CHUNKED, END, Part, Server, chunk, listening
from tests.harness.waiting import until
from worker.contract.images import Images
from worker.openai.client import StreamingOpenAIClient
from worker.openai.completion import ModelReported, StreamBroken
from worker.openai.pieces import ReasoningText, TextPiece, TokenLogprobs, ToolCallPart
from worker.serving.catalog import Model
from worker.serving.chat import Chat
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


@dataclass
class Outcome:
    """What a stream amounted to: its pieces of a kind joined, and how many of the model's they were."""

    pieces: list[tuple[str, str]] = field(default_factory=list)
    tokens: int = 0
    end: object = None

    def add(self, kind: str, content: str, tokens: int = 0) -> None:
        self.tokens += tokens
        if self.pieces and self.pieces[-1][0] == kind and kind in ("text", "reasoning"):
            content = self.pieces.pop()[1] + content
        self.pieces.append((kind, content))

    def note(self, piece: object) -> None:
        match piece:
            case CreateResult():
                self.end = piece
            case ReasoningText():
                self.add("reasoning", piece, piece.tokens)
            case TextPiece():
                self.add("text", piece, piece.tokens)
            case ToolCallPart():
                self.add("call", f"{piece.position} {piece.id} {piece.name} {piece.arguments}")
            case TokenLogprobs():
                self.add("logprobs", piece.json)
            case _:
                raise AssertionError(piece)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    made.pause = 0.003
    async with listening(made.serve) as made.url:
        yield made


def client(server: Server, kind: type[OpenAIChatCompletionClient] = StreamingOpenAIClient) -> Any:
    return kind(model="m", base_url=server.url, api_key="k", max_retries=0, model_info=INFO)


Tap = Callable[[str, int], bool]


async def outcome(server: Server, parts: Sequence[Part], pacer: Pacer | None, accept: Tap | None = None) -> Outcome:
    """What our client makes of a stream."""
    server.answers.append([CHUNKED, *parts, END])
    found = Outcome()

    def tap(content: str, tokens: int) -> bool:
        assert accept is not None
        taken = accept(content, tokens)
        if taken:
            found.add("text", content, tokens)
        return taken

    ours = client(server)
    if pacer is not None:
        ours.read_together(pacer)
    try:
        async for piece in ours.tapped_stream(tap if accept is not None else None, MESSAGES):
            found.note(piece)
    except (StreamBroken, ModelReported, openai.APIError) as error:
        found.end = type(error), str(error)
    await ours.close()
    return found


async def stock(server: Server, parts: Sequence[Part]) -> CreateResult:
    server.answers.append([CHUNKED, *parts, END])
    theirs = client(server, OpenAIChatCompletionClient)
    *_, result = [
        piece
        async for piece in theirs.create_stream(MESSAGES, extra_create_args={"stream_options": {"include_usage": True}})
    ]
    await theirs.close()
    assert isinstance(result, CreateResult)
    return result


def framed(parts: Sequence[bytes]) -> list[Part]:
    return [chunk(part) for part in parts]


@pytest.mark.parametrize("name", STREAMS)
async def test_a_stream_is_the_same_however_it_is_read(server: Server, name: str) -> None:
    parts = framed(STREAMS[name])
    turns = 0

    def every_other(_: str, __: int) -> bool:
        nonlocal turns
        turns += 1
        return turns % 2 == 0

    alone = await outcome(server, parts, None)
    pacer = Pacer(INTERVAL)
    assert await outcome(server, parts, pacer) == alone
    assert await outcome(server, parts, pacer, lambda *_: True) == alone
    assert await outcome(server, parts, pacer, every_other) == alone
    assert not pacer._reads
    pacer.close()


@pytest.mark.parametrize("name", COMPLETE)
async def test_a_complete_stream_is_what_autogen_takes_it_for(server: Server, name: str) -> None:
    parts = framed(COMPLETE[name])
    pacer = Pacer(INTERVAL)
    ours = await outcome(server, parts, pacer, lambda *_: True)
    pacer.close()
    theirs = await stock(server, parts)
    assert isinstance(ours.end, CreateResult)
    for field_ in ("content", "finish_reason", "usage", "thought", "cached"):
        assert getattr(ours.end, field_) == getattr(theirs, field_), field_


async def test_plain_text_goes_to_the_tap(server: Server) -> None:
    taken: list[str] = []

    def tap(content: str, _: int) -> bool:
        taken.append(content)
        return True

    pacer = Pacer(INTERVAL)
    await outcome(server, framed(STREAMS["text"]), pacer, tap)
    pacer.close()
    assert "".join(taken) == "".join(f"w{number} " for number in range(1, 8))


@given(sizes=st.lists(st.integers(1, 400), min_size=1, max_size=8), takes=st.lists(st.booleans(), min_size=1))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_stream_is_the_same_wherever_it_is_cut(sizes: list[int], takes: list[bool]) -> None:
    whole = b"".join(STREAMS["text"])
    parts: list[bytes] = []
    for size in itertools.cycle(sizes):
        parts.append(whole[:size])
        whole = whole[size:]
        if not whole:
            break
    turns = itertools.cycle(takes)

    async def read() -> Outcome:
        made = Server()
        made.pause = 0.0
        async with listening(made.serve) as made.url:
            pacer = Pacer(INTERVAL)
            found = await outcome(made, framed(parts), pacer, lambda *_: next(turns))
            pacer.close()
        return found

    found = asyncio.run(read())
    assert found.pieces == [("text", "".join(f"w{number} " for number in range(8)))]
    assert found.tokens == 8


# ------------------------------------------------------------ the same through a chat and its lane


@dataclass
class Answered:
    """What a gateway gets of a chat."""

    said: Outcome
    end: pb.ReplyEvent
    tapped: int


async def answered(server: Server, parts: Sequence[Part], paced: bool) -> Answered:
    """Run a chat whose client takes all at once."""
    server.answers.append([CHUNKED, *parts, END])
    said, tapped = Outcome(), 0
    ends: list[pb.ReplyEvent] = []

    def to_gateway(_: str, batch: pb.ChunkBatch) -> None:
        for piece in inbox.receive(pb.ChunkBatch.FromString(batch.SerializeToString()))[0]:
            kind = piece.WhichOneof("event") or ""
            if kind in ("done", "error", "cancelled"):
                ends.append(piece)
            elif kind != "accepted":
                assert piece.text or kind != "text"
                said.add(kind, str(getattr(piece, kind)), piece.tokens)
            incoming.consumed(payload_bytes(piece))

    inbox = Inbox("g", lambda ack, _: outbox.acknowledge(ack))
    outbox = Outbox("w", to_gateway, INTERVAL)
    outbox.link_up()
    incoming = inbox.open("w", "r", 1)
    pacer = Pacer(INTERVAL, outbox.hold, outbox.release)
    ours = client(server)
    if paced:
        ours.read_together(pacer)
    history = pb.ChatHistory(request_id="r", attempt=1, reply_to="g")
    history.messages.add(role=pb.ROLE_USER).content.add(text="hi")
    chat = Chat(history, Model("m", ours), outbox.open("g", "r", 1), Turns(), Images(1))
    tap = chat._tap

    def counting(content: str, tokens: int) -> bool:
        nonlocal tapped
        taken = tap(content, tokens)
        tapped += taken
        return taken

    chat._tap = counting  # type: ignore[method-assign, assignment]
    async with asyncio.timeout(20):
        await chat.run()
        await outbox.flushed()
    assert outbox.held is None
    pacer.close()
    await ours.close()
    (end,) = ends
    return Answered(said, end, tapped)


@pytest.mark.parametrize("paced", [False, True])
async def test_a_connection_is_kept_though_its_responses_end_comes_after_done(server: Server, paced: bool) -> None:
    ours, pacer = client(server), Pacer(INTERVAL)
    if paced:
        ours.read_together(pacer)
    for _ in range(3):
        server.answers.append([CHUNKED, *framed(COMPLETE["text"]), END])
        assert [piece async for piece in ours.create_stream(MESSAGES)]
        await asyncio.sleep(0.1)
    assert server.connections == 1
    pacer.close()
    await ours.close()


@pytest.mark.parametrize("name", STREAMS)
async def test_a_chat_is_the_same_however_its_stream_is_read(server: Server, name: str) -> None:
    parts = framed(STREAMS[name])
    alone, paced = await answered(server, parts, False), await answered(server, parts, True)
    assert (paced.said, paced.end) == (alone.said, alone.end)
    assert alone.tapped == 0


async def test_most_text_of_a_chat_goes_past_its_task(server: Server) -> None:
    assert (await answered(server, framed(STREAMS["text"]), True)).tapped >= 4


async def test_a_chat_that_is_read_together_minds_its_credit(server: Server) -> None:
    """Nobody takes anything: the model is read up to the credit and not beyond."""
    piece = 1000
    server.answers.append([CHUNKED, *framed([text("x" * piece)] * 3), *framed([text("x" * piece) * 20] * 20)])
    inbox = Inbox("g", lambda ack, _: outbox.acknowledge(ack))

    def to_gateway(_: str, batch: pb.ChunkBatch) -> None:
        inbox.receive(batch)

    outbox = Outbox("w", to_gateway, INTERVAL)
    outbox.link_up()
    inbox.open("w", "r", 1)
    pacer = Pacer(INTERVAL, outbox.hold, outbox.release)
    ours = client(server)
    ours.read_together(pacer)
    history = pb.ChatHistory(request_id="r", attempt=1, reply_to="g")
    history.messages.add(role=pb.ROLE_USER).content.add(text="hi")
    reply = outbox.open("g", "r", 1)
    running = asyncio.create_task(Chat(history, Model("m", ours), reply, Turns(), Images(1)).run())
    await until(lambda: not reply.writable)
    await asyncio.sleep(10 * INTERVAL)
    queued = reply._reply._written
    assert CREDIT <= queued <= 2 * CREDIT
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    pacer.close()
    await ours.close()
