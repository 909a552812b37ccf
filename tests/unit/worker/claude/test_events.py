"""Claude's streams in OpenAI's terms."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.growth import assert_linear
from tests.unit.worker.claude import streams
from worker.claude.events import DONE, FINISH_REASONS, KEPT_LIMIT, MessageDecoder, usage
from worker.contract import refusals
from worker.contract.errors import ModelReported
from worker.openai.chunk import NoChunk
from worker.wire.sse import EventTooLong


def chunks(*pieces: bytes) -> list[Any]:
    """What a body becomes; the end is None."""
    decoder = MessageDecoder()
    found = [chunk for piece in pieces for chunk in decoder.feed(piece)]
    return [None if chunk == DONE else json.loads(chunk) for chunk in [*found, *decoder.end()]]


class Reply:
    """Chunks, put together as a client does."""

    def __init__(self, found: list[Any]) -> None:
        self.calls: dict[int, dict[str, Any]] = {}
        self.fields: dict[str, Any] = {}
        self.reason = None
        self.usage: Any = None
        for chunk in found:
            if chunk is None:
                continue
            self.usage = chunk.get("usage") or self.usage
            if not chunk["choices"]:
                continue
            choice = chunk["choices"][0]
            self.reason = choice.get("finish_reason") or self.reason
            for name, value in choice["delta"].items():
                if name == "tool_calls":
                    self._call(value[0])
                else:
                    self.fields[name] = self.fields[name] + value if name in self.fields else value

    def _call(self, part: dict[str, Any]) -> None:
        call = self.calls.setdefault(part["index"], {**part, "function": {"name": "", "arguments": ""}})
        for name, value in part["function"].items():
            call["function"][name] += value


def event(kind: str, **data: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **data})}\n\n".encode()


def block(said: dict[str, Any], *deltas: dict[str, Any], index: int = 0) -> bytes:
    parts = [event("content_block_delta", index=index, delta=delta) for delta in deltas]
    start = event("content_block_start", index=index, content_block=said)
    return b"".join([start, *parts, event("content_block_stop", index=index)])


def end(reason: str = "end_turn", **fields: Any) -> bytes:
    return event("message_delta", delta={"stop_reason": reason, **fields}, usage={"output_tokens": 7}) + event(
        "message_stop"
    )


def test_text_is_content() -> None:
    found = chunks(streams.TEXT)
    reply = Reply(found)
    assert reply.fields == {"content": "Hello, übrigens 😀"}
    assert (reply.reason, found[-1]) == ("stop", None)


def test_the_usage_counts_what_caches_had_and_keeps_claudes_own_words() -> None:
    found = Reply(chunks(streams.TEXT)).usage
    assert (found["prompt_tokens"], found["completion_tokens"], found["total_tokens"]) == (2325, 15, 2340)
    assert found["prompt_tokens_details"] == {"cached_tokens": 2000, "cache_creation_tokens": 300}
    assert found["completion_tokens_details"] == {"reasoning_tokens": 0}
    assert (found["input_tokens"], found["service_tier"]) == (25, "standard")


@pytest.mark.parametrize("odd", [None, "7", -1, True, [], 10**30, float("nan")])
def test_odd_usage_is_no_usage(odd: Any) -> None:
    made = usage({"input_tokens": odd, "output_tokens": odd})
    assert made["prompt_tokens"] == made["completion_tokens"] == int(odd is True)


def test_thinking_is_reasoning_and_comes_back_whole_with_its_signature() -> None:
    reply = Reply(chunks(streams.THINKING))
    assert reply.fields["reasoning_content"] == "The user wants the weather."
    assert reply.fields["content"] == "Checking."
    thinking, redacted = reply.fields["thinking_blocks"]
    assert thinking == {
        "type": "thinking",
        "thinking": "The user wants the weather.",
        "signature": "EqQBCgIYAhIM1gbcDa9GJwZA2b3hGgxBdjrkzLoky3dl1pkiMOYds",
    }
    assert redacted["type"] == "redacted_thinking"
    assert redacted["data"].startswith("EmwKAhgB")


def test_parallel_calls_keep_their_ids_and_one_without_input_has_an_empty_object() -> None:
    reply = Reply(chunks(streams.THINKING))
    first, second = (reply.calls[index] for index in (0, 1))
    assert (first["id"], first["function"]["name"]) == ("toolu_01T1x1fJ34qAmk2tNTrN7Up6", "get_weather")
    assert json.loads(first["function"]["arguments"]) == {"location": "San Francisco, CA"}
    assert (second["id"], second["function"]) == ("toolu_01VY", {"name": "get_time", "arguments": "{}"})
    assert first["caller"] == {"type": "direct"}
    assert reply.reason == "tool_calls"


def test_a_call_that_starts_with_its_input_has_it() -> None:
    reply = Reply(chunks(block({"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}}) + end("tool_use")))
    assert json.loads(reply.calls[0]["function"]["arguments"]) == {"a": 1}


def test_what_a_server_tool_did_comes_whole_and_citations_as_they_come() -> None:
    reply = Reply(chunks(streams.SEARCH))
    use, result = reply.fields["content_blocks"]
    assert (use["type"], use["input"]) == ("server_tool_use", {"query": "weather NYC"})
    assert result["content"][0]["encrypted_content"] == "Ev0DCioIAxgC"
    assert [citation["encrypted_index"] for citation in reply.fields["citations"]] == ["Eo8B"]
    assert reply.fields["content"] == "I'll check.It is sunny."
    assert reply.usage["server_tool_use"] == {"web_search_requests": 1}
    assert reply.calls == {}


def test_thinking_after_a_server_tool_keeps_its_place_among_its_blocks() -> None:
    body = b"".join(
        [
            block({"type": "thinking", "thinking": "a", "signature": "1"}),
            block({"type": "mcp_tool_use", "id": "m", "name": "f", "input": {}}, index=1),
            block({"type": "thinking", "thinking": "b", "signature": "2"}, index=2),
            block({"type": "a kind of next year", "x": 1}, {"type": "x_delta", "y": "a"}, {"type": "x", "y": "b"}),
        ]
    )
    reply = Reply(chunks(body + end()))
    assert [one["signature"] for one in reply.fields["thinking_blocks"]] == ["1"]
    assert [one["type"] for one in reply.fields["content_blocks"]] == [
        "mcp_tool_use",
        "thinking",
        "a kind of next year",
    ]
    assert reply.fields["content_blocks"][2]["y"] == "ab"
    assert reply.fields["reasoning_content"] == "ab"


def test_a_refusal_is_a_filtered_reply_with_its_details() -> None:
    reply = Reply(chunks(streams.REFUSAL))
    assert reply.reason == "content_filter"
    assert reply.fields["stop_details"]["category"] == "bio"
    assert reply.fields["content"] == "First, "


@pytest.mark.parametrize(("said", "reason"), [*FINISH_REASONS.items(), ("pause_turn", "pause_turn"), ("new", "new")])
def test_stop_reasons_have_openais_words_or_stay_as_they_are(said: str, reason: str) -> None:
    assert Reply(chunks(block({"type": "text", "text": "a"}) + end(said))).reason == reason


def test_the_stop_sequence_is_told() -> None:
    assert Reply(chunks(end("stop_sequence", stop_sequence="END"))).fields == {"stop_sequence": "END"}


def test_a_message_that_is_no_stream_is_understood() -> None:
    for size in (1, 7, len(streams.WHOLE)):
        pieces = [streams.WHOLE[start : start + size] for start in range(0, len(streams.WHOLE), size)]
        found = chunks(*pieces)
        reply = Reply(found)
        assert (reply.fields["content"], reply.fields["reasoning_content"]) == ("Hi.", "Hm.")
        assert reply.fields["thinking_blocks"] == [{"type": "thinking", "thinking": "Hm.", "signature": "Eq"}]
        assert json.loads(reply.calls[0]["function"]["arguments"]) == {"a": [1]}
        assert (reply.reason, reply.usage["total_tokens"], found[-1]) == ("tool_calls", 12, None)


@pytest.mark.parametrize("body", [streams.OVERLOADED, b'{"type":"error","error":{"type":"overloaded_error"}}'])
def test_an_error_in_a_stream_is_what_claude_reported(body: bytes) -> None:
    with pytest.raises(ModelReported) as reported:
        chunks(body)
    assert refusals.read(reported.value.body).type == "overloaded_error"


def test_what_came_before_an_error_is_told_first() -> None:
    decoder = MessageDecoder()
    told = []
    with pytest.raises(ModelReported):  # noqa: PT012
        for chunk in decoder.feed(streams.BROKEN):
            told.append(chunk)  # noqa: PERF402
    assert len(told) == 3


@pytest.mark.parametrize("where", range(0, len(streams.THINKING), 131))
def test_it_does_not_matter_where_a_stream_was_cut_into_pieces(where: int) -> None:
    whole = chunks(streams.THINKING)
    assert chunks(streams.THINKING[:where], streams.THINKING[where:]) == whole


@pytest.mark.parametrize("last", [b"data: [DONE]\n\n", b"data:\n\n: bye\n\n", b"event: ping\ndata: {}\n\n"])
def test_what_intermediaries_put_beside_the_events_is_understood(last: bytes) -> None:
    body = b"\xef\xbb\xbf" + streams.TEXT.replace(b"\n", b"\r\n").replace(b"event: message_stop", b"") + last
    assert Reply(chunks(body)).fields == {"content": "Hello, übrigens 😀"}


def test_a_page_instead_of_a_stream_is_told() -> None:
    with pytest.raises(NoChunk, match="<html>"):
        chunks(b"<html>Sorry</html>")


@pytest.mark.parametrize("kind", ["ping", "a_kind_of_next_year"])
def test_unknown_events_are_no_news(kind: str) -> None:
    assert chunks(event(kind, text="x")) == []


@pytest.mark.parametrize(
    "body",
    [
        b"data: []\n\n",
        b'data: {"choices": []}\n\n',
        event("message_start"),
        event("content_block_start", index=0),
        event("content_block_start", index="0", content_block={"type": "text"}),
        event("content_block_delta", index=0, delta={"type": "text_delta", "text": "a"}),
        event("message_delta"),
        b'{"type": "message", "content": ["a"]}',
    ],
)
def test_what_is_no_event_of_claudes_is_refused(body: bytes) -> None:
    with pytest.raises(NoChunk):
        chunks(body)


def test_half_a_character_does_not_end_a_stream() -> None:
    body = event("content_block_start", index=0, content_block={"type": "text", "text": "\ud83d"})
    assert Reply(chunks(body)).fields["content"] == "\ud83d"


def test_what_is_kept_of_a_message_is_bounded() -> None:
    piece = event("content_block_delta", index=0, delta={"type": "thinking_delta", "thinking": "a" * 65536})
    start = event("content_block_start", index=0, content_block={"type": "thinking"})
    with pytest.raises(EventTooLong):
        chunks(start, *[piece] * (KEPT_LIMIT // 65536 + 1))
    with pytest.raises(EventTooLong):
        chunks(b"{", *[b" " * 65536] * (KEPT_LIMIT // 65536 + 1))
    starts = [event("content_block_start", index=index, content_block={"type": "text"}) for index in range(1025)]
    with pytest.raises(NoChunk, match="blocks"):
        chunks(*starts)


def test_a_block_in_many_small_pieces_costs_no_more_than_its_length() -> None:
    start = event("content_block_start", index=0, content_block={"type": "a kind of next year", "x": ""})
    piece = event("content_block_delta", index=0, delta={"type": "x_delta", "x": "a" * 200})

    def read(pieces: int) -> Callable[[], list[Any]]:
        body = piece * pieces
        return lambda: chunks(start, body, event("content_block_stop", index=0))

    assert read(1000)()[-1]["choices"][0]["delta"]["content_blocks"][0]["x"] == "a" * 200_000
    assert_linear(read, 2000)
