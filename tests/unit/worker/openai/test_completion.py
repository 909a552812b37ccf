"""What a model's chunks amount to."""

import json

import pytest

from fleet.lane import SLICE
from protos import chat_pb2 as pb
from tests.unit.worker.recording import Recording
from worker.contract.errors import ModelReported, StreamBroken
from worker.contract.fields import dumps
from worker.openai.completion import Completion
from worker.wire.connection import READ

DONE = b"data: [DONE]\n\n"


def event(value: object) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def chunk(finish_reason: str | None = None, **delta: object) -> bytes:
    return event({"choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]})


class Writes(Recording):
    """Counts how often text is written."""

    def __init__(self) -> None:
        super().__init__()
        self.writes = 0

    def _delta(self, kind: str, text: str, tokens: int) -> None:
        self.writes += 1
        super()._delta(kind, text, tokens)


@pytest.fixture
def sink() -> Writes:
    return Writes()


@pytest.fixture
def completion(sink: Writes) -> Completion:
    return Completion(sink)


async def test_text_and_reasoning_are_told_apart(sink: Writes, completion: Completion) -> None:
    completion.data_received(chunk(role="assistant", content="", reasoning_content="hm"))
    completion.data_received(chunk(content="a"))
    completion.data_received(chunk("stop") + DONE)
    assert sink.events == [("reasoning", "hm"), ("text", "a")]
    assert await completion.end() == pb.Done(finish_reason="stop", usage=pb.Usage())
    assert completion.is_whole


async def test_text_that_arrives_together_is_written_once(sink: Writes, completion: Completion) -> None:
    completion.data_received(b"".join([chunk(content="a"), chunk(content="b"), chunk(content="c")]))
    assert (sink.events, sink.tokens, sink.writes) == ([("text", "abc")], 3, 1)


async def test_events_keep_their_order_when_they_arrive_together(sink: Writes, completion: Completion) -> None:
    call = {"index": 0, "id": "1", "function": {"name": "f", "arguments": "{}"}}
    together = [chunk(content="a"), chunk(reasoning="b"), chunk(content="c"), chunk(tool_calls=[call])]
    completion.data_received(b"".join([*together, chunk(content="d")]))
    assert [kind for kind, _ in sink.events] == ["text", "reasoning", "text", "tool_call", "text"]


async def test_tool_calls_come_in_parts_or_whole(sink: Writes, completion: Completion) -> None:
    completion.data_received(chunk(tool_calls=[{"index": 0, "id": "1", "function": {"name": "f", "arguments": ""}}]))
    completion.data_received(chunk(tool_calls=[{"index": 0, "function": {"arguments": '{"a"'}}]))
    completion.data_received(chunk("tool_calls", tool_calls=[{"index": 0, "function": {"arguments": ": 1}"}}]))
    completion.data_received(chunk(tool_calls=[{"id": "2", "function": {"name": "g", "arguments": "{}"}}]) + DONE)
    assert [value for _, value in sink.events] == [
        pb.ToolCall(index=0, id="1", name="f"),
        pb.ToolCall(index=0, arguments='{"a"'),
        pb.ToolCall(index=0, arguments=": 1}"),
        pb.ToolCall(index=1, id="2", name="g"),
        pb.ToolCall(index=1, arguments="{}"),  # held, because the arguments may have followed it
    ]
    assert (await completion.end()).finish_reason == "function_calls"


async def test_a_character_of_a_calls_arguments_may_be_cut_in_two(sink: Writes, completion: Completion) -> None:
    for arguments in ('{"a": "\ud83d', '\ude00"}', "\ud83d"):
        completion.data_received(chunk(tool_calls=[{"index": 0, "function": {"arguments": arguments}}]))
    completion.data_received(chunk("tool_calls") + DONE)
    calls = [value for _, value in sink.events]
    assert "".join(call.arguments for call in calls if isinstance(call, pb.ToolCall)) == '{"a": "\U0001f600"}\ufffd'


async def test_half_a_character_stays_where_it_was(sink: Writes, completion: Completion) -> None:
    completion.data_received(chunk(content="a\ud83d"))
    completion.data_received(chunk(reasoning="b\ud83d"))
    completion.data_received(chunk(tool_calls=[{"id": "1", "function": {"name": "f"}}]))
    completion.data_received(chunk(content="c\ud83d"))
    completion.failed(LookupError())
    assert sink.events == [
        ("text", "a\ufffd"),
        ("reasoning", "b\ufffd"),
        ("tool_call", pb.ToolCall(id="1", name="f")),
        ("text", "c\ufffd"),
    ]
    assert sink.tokens == 3


async def test_usage_is_taken_from_whichever_chunk_has_it(completion: Completion) -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": None}
    completion.data_received(event({"choices": [], "usage": usage}))
    completion.data_received(chunk("stop"))
    completion.eof_received()
    assert (await completion.end()).usage == pb.Usage(prompt_tokens=3, extra=dumps(usage))


@pytest.mark.parametrize("tokens", [0, "many", 1e999, -1])
async def test_usage_that_counts_nothing_does_not_make_a_stream_whole(completion: Completion, tokens: object) -> None:
    usage = json.dumps({"prompt_tokens": tokens}).replace("Infinity", "1e999")
    completion.data_received(chunk(content="a") + b'data: {"choices": [], "usage": %b}\n\n' % usage.encode() + DONE)
    with pytest.raises(StreamBroken, match="without a finish reason"):
        await completion.end()


@pytest.mark.parametrize(
    ("reason", "finish_reason"),
    [("end_turn", "stop"), ("LENGTH", "length"), ("function_call", "function_calls"), ("what", "unknown")],
)
async def test_finish_reasons_are_autogens(completion: Completion, reason: str, finish_reason: str) -> None:
    completion.data_received(chunk(reason) + DONE)
    assert (await completion.end()).finish_reason == finish_reason


async def test_a_stream_without_a_finish_reason_is_broken(completion: Completion) -> None:
    completion.data_received(chunk(content="a") + DONE)
    with pytest.raises(StreamBroken, match="without a finish reason"):
        await completion.end()


async def test_an_error_in_the_stream_is_the_models(sink: Writes, completion: Completion) -> None:
    completion.data_received(chunk(content="a") + event({"error": {"message": "overloaded"}}) + chunk(content="b"))
    assert sink.events == [("text", "a")]
    with pytest.raises(ModelReported) as reported:
        await completion.end()
    assert reported.value.body == {"message": "overloaded"}


async def test_what_the_connection_fails_with_is_raised_once_and_nothing_follows(
    sink: Writes, completion: Completion
) -> None:
    completion.failed(LookupError("first"))
    completion.failed(LookupError("second"))
    completion.data_received(chunk(content="a"))
    completion.eof_received()
    assert not sink.events
    with pytest.raises(LookupError, match="first"):
        await completion.end()


async def test_what_follows_done_is_ignored(sink: Writes, completion: Completion) -> None:
    completion.data_received(chunk("stop", content="a") + DONE + chunk(content="b"))
    completion.data_received(chunk(content="c"))
    assert sink.events == [("text", "a")]
    assert (await completion.end()).finish_reason == "stop"


async def test_a_broken_stream_tells_its_usage(completion: Completion) -> None:
    completion.data_received(event({"choices": [], "usage": {"prompt_tokens": 3}}) + b"data: what?\n\n")
    with pytest.raises(StreamBroken) as broken:
        await completion.end()
    assert broken.value.usage.prompt_tokens == 3


async def test_a_stream_may_say_nothing_only_so_long(completion: Completion, monkeypatch: pytest.MonkeyPatch) -> None:
    silence = 16 * READ
    monkeypatch.setattr("worker.openai.completion.SILENCE", silence)
    empty = chunk(content="") * (READ // len(chunk(content="")))
    for _ in range(silence // len(empty)):
        completion.data_received(empty)
    assert not completion.is_over
    completion.data_received(chunk(content="a"))
    completion.data_received(empty)
    assert not completion.is_over
    for _ in range(silence // len(empty) + 1):
        completion.data_received(empty)
    with pytest.raises(StreamBroken, match="said nothing"):
        await completion.end()


async def test_an_event_of_any_length_is_written(sink: Writes, completion: Completion) -> None:
    data = chunk(content="x" * 20 * SLICE)
    for start in range(0, len(data), READ):
        completion.data_received(data[start : start + READ])
    assert sink.events == [("text", "x" * 20 * SLICE)]


async def test_the_first_delta_is_noticed_once(sink: Writes) -> None:
    firsts: list[bool] = []
    completion = Completion(sink, lambda: firsts.append(True))
    completion.data_received(chunk(role="assistant", content=""))
    assert not firsts
    completion.data_received(chunk(reasoning="a"))
    completion.data_received(chunk(content="a"))
    assert firsts == [True]
