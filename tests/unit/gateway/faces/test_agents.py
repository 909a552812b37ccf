"""Several speakers in one reply, on both faces: none is lost, and none speaks in another's message."""

import json
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.process.turns import at_once
from gateway.chats.reply import Completed
from gateway.faces.fields import Fields
from gateway.faces.ndjson.encoder import Ndjson
from gateway.faces.openai.encoder import OpenAIFormat
from gateway.faces.whole import Whole, gathered
from protos import chat_pb2 as pb

SPEAKERS = ("a", "b", "c")
Json = dict[str, Any]


def openai() -> OpenAIFormat:
    return OpenAIFormat("r", lambda: "m", include_usage=False)


def whole(reply: Iterable[pb.ReplyEvent]) -> Whole:
    return at_once(gathered(reply, Fields()))


def deltas(format_: OpenAIFormat, events: Iterable[pb.ReplyEvent]) -> list[Json]:
    stream = b"".join(map(format_.event, events)).decode().split("\n\n")[:-1]
    return [json.loads(event.removeprefix("data: "))["choices"][0]["delta"] for event in stream]


def mark(source: str, id_: str, *, end: bool = False) -> pb.ReplyEvent:
    return pb.ReplyEvent(source=source, message=pb.MessageMark(id=id_, end=end))


@st.composite
def conversations(draw: st.DrawFn) -> list[pb.ReplyEvent]:
    """Replies whose speakers interleave as parallel branches do; every word says who speaks and in which message."""
    opened: dict[str, str] = {}
    events: list[pb.ReplyEvent] = []
    for number, (source, act) in enumerate(
        draw(st.lists(st.tuples(st.sampled_from(SPEAKERS), st.sampled_from(["text", "text", "reasoning", "end"]))))
    ):
        if act == "end":
            if source in opened:
                events.append(mark(source, opened.pop(source), end=True))
            continue
        if source not in opened:
            opened[source] = f"{source}{number}"
            events.append(mark(source, opened[source]))
        event = pb.ReplyEvent(source=source)
        setattr(event, act, f"<{act}:{opened[source]}>")
        events.append(event)
    return events + [mark(source, id_, end=True) for source, id_ in opened.items()]


def said(events: Iterable[pb.ReplyEvent], kind: str, source: str) -> str:
    return "".join(getattr(event, kind) for event in events if event.source == source)


@given(conversations())
def test_interleaved_speakers_never_mix(reply: list[pb.ReplyEvent]) -> None:
    lines = [json.loads(line) for line in b"".join(map(Ndjson("r").event, reply)).splitlines()]
    chunks = deltas(openai(), reply)
    answer = whole(reply)
    for kind, ours, openais in (("text", "content", "content"), ("reasoning", "reasoning", "reasoning_content")):
        for source in SPEAKERS:
            expected = said(reply, kind, source)
            assert "".join(line.get(ours, "") for line in lines if line["source"] == source) == expected
            heard = "".join(delta.get(openais) or "" for delta in chunks if delta.get("source") == source)
            assert heard.replace("\n\n", "") == expected
            assert "".join(part.get(ours, "") for part in answer.messages if part["source"] == source) == expected
        # What a chat client shows is the same streamed and whole, and a paragraph is one speaker's.
        shown = "".join(delta.get(openais) or "" for delta in chunks)
        assert shown == getattr(answer, kind)
        for paragraph in filter(None, shown.split("\n\n")):
            assert len({word.partition(":")[2] for word in paragraph.split(">")[:-1]}) == 1


@given(conversations())
def test_a_whole_answer_has_each_message_in_one_piece(reply: list[pb.ReplyEvent]) -> None:
    pieces: dict[str, list[str]] = {}
    for event in reply:
        if event.text or event.reasoning:
            pieces.setdefault((event.text or event.reasoning).partition(":")[2], []).append(event.text)
    found = whole(reply).messages
    assert [part.get("content", "") for part in found] == ["".join(texts) for texts in pieces.values()]


@given(conversations())
def test_marks_begin_and_end_each_message_once(reply: list[pb.ReplyEvent]) -> None:
    opened: dict[str, str] = {}
    for line in map(json.loads, b"".join(map(Ndjson("r").event, reply)).splitlines()):
        if "message" in line:
            if line["message"]["event"] == "begin":
                assert line["source"] not in opened
                opened[line["source"]] = line["message"]["id"]
            else:
                assert opened.pop(line["source"]) == line["message"]["id"]
        else:
            assert opened[line["source"]] in line["content"] + line.get("reasoning", "")
    assert not opened


CALL = pb.ToolCall(id="1", name="f", arguments="{}")
DONE: dict[str, tuple[pb.ReplyEvent, Any]] = {
    "tool_call": (pb.ReplyEvent(tool_call=CALL), {"id": "1", "name": "f", "arguments": "{}"}),
    "tool_result": (
        pb.ReplyEvent(tool_result=pb.ToolResult(call_id="1", name="f", content="c")),
        {"call_id": "1", "name": "f", "content": "c", "is_error": False},
    ),
    "handoff": (pb.ReplyEvent(handoff=pb.Handoff(target="b")), {"target": "b", "content": ""}),
    "custom": (pb.ReplyEvent(custom=pb.Custom(kind="k", json="1")), {"kind": "k", "value": 1}),
}


@pytest.mark.parametrize("kind", DONE)
def test_what_ran_on_the_server_is_an_agent_event_and_no_tool_call(kind: str) -> None:
    event, shown = DONE[kind]
    event.source = "a"
    (delta,) = deltas(openai(), [event])
    assert (delta["source"], delta["agent_event"]) == ("a", {kind: shown})
    assert "tool_calls" not in delta
    answer = json.loads(at_once(openai().whole([event], Completed("stop"))))["choices"][0]["message"]
    assert answer["messages"] == [{"source": "a", kind: shown}]
    assert "tool_calls" not in answer


def test_the_clients_calls_are_tool_calls_beside_what_an_agent_did() -> None:
    reply = [pb.ReplyEvent(source="a", tool_call=CALL), pb.ReplyEvent(tool_call=pb.ToolCall(id="2", name="g"))]
    assert [delta.get("tool_calls", [{}])[0].get("id") for delta in deltas(openai(), reply)] == [None, "2"]
    message = json.loads(at_once(openai().whole(reply, Completed("function_calls"))))["choices"][0]["message"]
    assert [call["id"] for call in message["tool_calls"]] == ["2"]
    lines = [json.loads(Ndjson("r").event(event)) for event in reply]
    assert ("tool_call" in lines[0], "tool_calls" in lines[1]) == (True, True)
    body = json.loads(at_once(Ndjson("r").whole(reply, Completed("function_calls"))))
    assert [call["id"] for call in body["tool_calls"]] == ["2"]


def test_marks_are_no_chunks_of_openais_format() -> None:
    assert deltas(openai(), [mark("a", "1"), mark("a", "1", end=True)]) == []
