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
UNEXPRESSED = [
    pb.ReplyEvent(logprobs="[]"),
    pb.ReplyEvent(tool_result=pb.ToolResult(call_id="1")),
    pb.ReplyEvent(message=pb.MessageMark(id="1")),
    pb.ReplyEvent(handoff=pb.Handoff(target="a")),
    pb.ReplyEvent(approval=pb.Approval(id="1")),
    pb.ReplyEvent(custom=pb.Custom(kind="k", json="1")),
    pb.ReplyEvent(usage=pb.Usage(prompt_tokens=1)),
]


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
