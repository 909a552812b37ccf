"""What a model's chunks amount to."""

import json

import pytest
from autogen_core import FunctionCall
from autogen_core.models import RequestUsage

from worker.openai.completion import ModelReported, Reply, StreamBroken
from worker.openai.pieces import ReasoningText


def chunk(finish_reason: str | None = None, **delta: object) -> bytes:
    return json.dumps({"choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]}).encode()


def test_text_and_reasoning_are_told_apart() -> None:
    reply = Reply()
    pieces = reply.take(chunk(role="assistant", content="", reasoning_content="hm"))
    pieces += reply.take(chunk(content="a")) + reply.take(chunk("stop"))
    assert pieces == ["hm", "a"]
    assert [isinstance(piece, ReasoningText) for piece in pieces] == [True, False]
    result = reply.result()
    assert (result.content, result.thought, result.finish_reason) == ("a", "hm", "stop")


def test_tool_calls_come_in_parts_or_whole() -> None:
    reply = Reply()
    reply.take(chunk(tool_calls=[{"index": 0, "id": "1", "function": {"name": "f", "arguments": ""}}]))
    reply.take(chunk(tool_calls=[{"index": 0, "function": {"arguments": '{"a"'}}]))
    reply.take(chunk("tool_calls", tool_calls=[{"index": 0, "function": {"arguments": ": 1}"}}]))
    reply.take(chunk(tool_calls=[{"id": "2", "function": {"name": "g", "arguments": "{}"}}]))
    result = reply.result()
    assert result.content == [
        FunctionCall(id="1", name="f", arguments='{"a": 1}'),
        FunctionCall(id="2", name="g", arguments="{}"),
    ]
    assert result.finish_reason == "function_calls"


def test_usage_is_taken_from_whichever_chunk_has_it() -> None:
    reply = Reply()
    reply.take(b'{"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": null}}')
    reply.take(chunk("stop"))
    assert reply.result().usage == RequestUsage(3, 0)


def test_a_stream_without_a_finish_reason_is_no_reply() -> None:
    reply = Reply()
    reply.take(chunk(content="a"))
    with pytest.raises(StreamBroken):
        reply.result()


def test_an_error_in_the_stream_is_the_models() -> None:
    with pytest.raises(ModelReported) as reported:
        Reply().take(b'{"error": {"message": "overloaded"}}')
    assert reported.value.body == {"message": "overloaded"}


@pytest.mark.parametrize("payload", [b"", b"<html>", b"[]", b'{"choices": [1]}', b'{"choices": {"a": 1}}'])
def test_what_is_no_chunk_is_refused(payload: bytes) -> None:
    with pytest.raises((ValueError, AttributeError, LookupError)):
        Reply().take(payload)
