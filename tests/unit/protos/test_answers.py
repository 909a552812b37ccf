"""What a model says is what a client is told, through the worker's events and the gateway's formats."""

import json
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.lane import payload_bytes
from fleet.lane.reply import LARGEST_EVENT
from fleet.process.turns import at_once
from gateway.chats.reply import Completed
from gateway.faces.ndjson.encoder import Ndjson
from gateway.faces.openai.encoder import OpenAIFormat
from protos import chat_pb2 as pb
from tests.answers import Draw, Json, body, expected, stream, told, told_whole
from tests.unit.worker.recording import Recording
from worker.openai.completion import Completion


class Events(Recording):
    """Keeps the events as a gateway gets them."""

    def __init__(self) -> None:
        super().__init__()
        self.all: list[pb.ReplyEvent] = []

    def text(self, text: str, tokens: int = 1, source: str = "") -> None:
        self.all.append(pb.ReplyEvent(text=text, tokens=tokens))

    def reasoning(self, text: str, tokens: int = 1, source: str = "") -> None:
        self.all.append(pb.ReplyEvent(reasoning=text, tokens=tokens))

    def event(self, event: pb.ReplyEvent) -> None:
        assert payload_bytes(event) <= LARGEST_EVENT
        self.all.append(pb.ReplyEvent.FromString(event.SerializeToString()))


async def reply(parts: Sequence[bytes]) -> tuple[list[pb.ReplyEvent], Completed]:
    sink = Events()
    completion = Completion(sink)
    for part in parts:
        completion.data_received(part)
    completion.eof_received()
    done = await completion.end()
    return sink.all, Completed(done.reason or done.finish_reason, done.usage)


def encoder() -> OpenAIFormat:
    return OpenAIFormat("r", lambda: "m", include_usage=True)


def streamed(events: Sequence[pb.ReplyEvent], end: Completed) -> list[Json]:
    made = encoder()
    blocks = b"".join([*map(made.event, events), made.end(end)]).decode().split("\n\n")
    assert blocks[-2:] == ["data: [DONE]", ""]
    return [json.loads(block.removeprefix("data: ")) for block in blocks[:-2]]


@settings(max_examples=300)
@given(st.integers(0))
async def test_a_client_is_told_all_that_the_model_said(seed: int) -> None:
    draw = Draw(seed)
    chunks = stream(draw)
    events, end = await reply(body(draw, chunks))
    assert told(streamed(events, end)) == expected(chunks, whole=False)
    assert told_whole(json.loads(at_once(encoder().whole(events, end)))) == expected(chunks, whole=True)


@settings(max_examples=100)
@given(st.integers(0))
async def test_the_seeds_clients_read_the_same_text_and_find_the_rest(seed: int) -> None:
    draw = Draw(seed)
    chunks = stream(draw)
    events, end = await reply(body(draw, chunks))
    made = Ndjson("r")
    lines = [json.loads(line) for line in b"".join([*map(made.event, events), made.end(end)]).splitlines()]
    message = expected(chunks, whole=False)["message"]
    said = "".join(line["content"] for line in lines)
    assert sorted(said) == sorted(message.get("content", "") + message.get("refusal", ""))
    whole = json.loads(at_once(Ndjson("r").whole(events, end)))
    extra = whole.get("extra", {}).get("delta", {})
    known = {"content", "reasoning_content", "tool_calls"}
    assert {k: v for k, v in extra.items() if k not in known} == {k: v for k, v in message.items() if k not in known}
