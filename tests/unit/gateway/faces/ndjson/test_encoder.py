"""The seed's format."""

import json
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.process.turns import at_once
from gateway.chats.reply import Completed
from gateway.errors import WorkerLost
from gateway.faces.ndjson.encoder import Ndjson
from protos import chat_pb2 as pb

FORMAT = Ndjson("r")
UNEXPRESSED = [pb.ReplyEvent(logprobs="[]"), pb.ReplyEvent(usage=pb.Usage(prompt_tokens=1))]


@given(st.text(min_size=1) | st.text(string.printable, min_size=1))
def test_any_text_is_one_line_that_reads_back_as_it_was(text: str) -> None:
    line = FORMAT.event(pb.ReplyEvent(text=text))
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert json.loads(line) == {"content": text}


def test_every_line_has_content_for_the_seeds_clients() -> None:
    call = pb.ToolCall(id="1", name="f", arguments="{}")
    assert json.loads(FORMAT.event(pb.ReplyEvent(reasoning="h"))) == {"content": "", "reasoning": "h"}
    assert json.loads(FORMAT.event(pb.ReplyEvent(tool_call=call))) == {
        "content": "",
        "tool_calls": [{"index": 0, "id": "1", "name": "f", "arguments": "{}"}],
    }


@pytest.mark.parametrize("event", UNEXPRESSED, ids=lambda event: event.WhichOneof("event"))
def test_kinds_without_a_shape_are_left_out(event: pb.ReplyEvent) -> None:
    assert FORMAT.event(event) == b""
    assert json.loads(at_once(FORMAT.whole([event, pb.ReplyEvent(text="a")], Completed("stop"))))["content"] == "a"


def test_the_last_line_says_how_it_ended() -> None:
    done = Completed("stop", pb.Usage(prompt_tokens=3, completion_tokens=4))
    assert json.loads(FORMAT.end(done)) == {
        "content": "",
        "done": True,
        "finish_reason": "stop",
        "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7},
    }
    assert json.loads(FORMAT.end(WorkerLost("worker_lost", "gone"))) == {
        "content": "",
        "error": {"code": "worker_lost", "message": "gone", "retryable": True, "request_id": "r"},
    }


def test_a_whole_reply_has_the_same_fields_in_one_object() -> None:
    call = pb.ToolCall(id="1", name="f", arguments="{}")
    deltas = [pb.ReplyEvent(reasoning="h"), pb.ReplyEvent(text="a"), pb.ReplyEvent(text="b")]
    assert json.loads(at_once(FORMAT.whole([*deltas, pb.ReplyEvent(tool_call=call)], Completed("stop")))) == {
        "content": "ab",
        "done": True,
        "finish_reason": "stop",
        "usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
        "reasoning": "h",
        "tool_calls": [{"index": 0, "id": "1", "name": "f", "arguments": "{}"}],
    }


def test_what_else_a_model_says_is_in_a_field_of_its_own() -> None:
    def fields(value: object, beside: bool) -> pb.ReplyEvent:
        return pb.ReplyEvent(fields=pb.Fields(json=json.dumps(value), beside=beside))

    made = Ndjson("r")
    reply = [
        fields({"chunk": {"citations": [1]}}, beside=True),
        pb.ReplyEvent(text="a"),
        fields({"delta": {"refusal": "no"}}, beside=False),
    ]
    lines = [json.loads(line) for line in b"".join([*map(made.event, reply), made.end(Completed("stop"))]).splitlines()]
    assert lines[:2] == [
        {"content": "a", "extra": {"chunk": {"citations": [1]}}},
        {"content": "no", "extra": {"delta": {"refusal": "no"}}},
    ]
    assert "extra" not in lines[2]
    whole = json.loads(at_once(Ndjson("r").whole(reply, Completed("stop"))))
    assert (whole["content"], whole["extra"]) == ("ano", {"chunk": {"citations": [1]}, "delta": {"refusal": "no"}})


# ------------------------------------------------------------ agents

RESULT = pb.ToolResult(call_id="1", name="f", content="c", is_error=True)
CALL = pb.ToolCall(id="1", name="f", arguments="{}")
SHOWN: list[tuple[pb.ReplyEvent, dict[str, object]]] = [
    (pb.ReplyEvent(message=pb.MessageMark(id="m")), {"message": {"id": "m", "event": "begin"}}),
    (pb.ReplyEvent(message=pb.MessageMark(id="m", end=True)), {"message": {"id": "m", "event": "end"}}),
    (pb.ReplyEvent(tool_call=CALL), {"tool_call": {"id": "1", "name": "f", "arguments": "{}"}}),
    (
        pb.ReplyEvent(tool_result=RESULT),
        {"tool_result": {"call_id": "1", "name": "f", "content": "c", "is_error": True}},
    ),
    (pb.ReplyEvent(handoff=pb.Handoff(target="b", content="go")), {"handoff": {"target": "b", "content": "go"}}),
    (pb.ReplyEvent(approval=pb.Approval(id="1", content="ok?")), {"approval": {"id": "1", "content": "ok?"}}),
    (pb.ReplyEvent(custom=pb.Custom(kind="k", json='{"a":[1]}')), {"custom": {"kind": "k", "value": {"a": [1]}}}),
]


@pytest.mark.parametrize(("event", "shown"), SHOWN, ids=[next(iter(shown)) for _, shown in SHOWN])
def test_what_an_agent_does_is_a_line_that_names_it(event: pb.ReplyEvent, shown: dict[str, object]) -> None:
    event.source = "a"
    assert json.loads(FORMAT.event(event)) == {"content": "", "source": "a", **shown}


def test_text_names_its_speaker() -> None:
    assert json.loads(FORMAT.event(pb.ReplyEvent(text="x", source='"a"'))) == {"content": "x", "source": '"a"'}
    line = json.loads(FORMAT.event(pb.ReplyEvent(reasoning="x", source="a")))
    assert line == {"content": "", "reasoning": "x", "source": "a"}


def test_a_custom_event_that_is_no_json_is_the_workers_fault() -> None:
    with pytest.raises(WorkerLost, match="no JSON"):
        FORMAT.event(pb.ReplyEvent(source="a", custom=pb.Custom(kind="k", json="{")))


def test_a_whole_answer_has_its_messages() -> None:
    def text(source: str, text: str) -> pb.ReplyEvent:
        return pb.ReplyEvent(source=source, text=text)

    def mark(source: str, end: bool) -> pb.ReplyEvent:
        return pb.ReplyEvent(source=source, message=pb.MessageMark(id="m", end=end))

    reply = [
        *(mark("a", False), text("a", "one "), text("a", "two"), mark("a", True)),
        *(mark("a", False), text("a", "again"), mark("a", True)),
        pb.ReplyEvent(source="b", tool_call=CALL),
        pb.ReplyEvent(source="b", tool_result=RESULT),
        *(mark("b", False), pb.ReplyEvent(source="b", reasoning="hm"), text("b", "three"), mark("b", True)),
    ]
    body = json.loads(at_once(Ndjson("r").whole(reply, Completed("stop"))))
    assert body["content"] == "one two\n\nagain\n\nthree"
    assert body["reasoning"] == "hm"
    assert "tool_calls" not in body
    assert body["messages"] == [
        {"source": "a", "content": "one two"},
        {"source": "a", "content": "again"},
        {"source": "b", "tool_call": {"id": "1", "name": "f", "arguments": "{}"}},
        {"source": "b", "tool_result": {"call_id": "1", "name": "f", "content": "c", "is_error": True}},
        {"source": "b", "reasoning": "hm", "content": "three"},
    ]
