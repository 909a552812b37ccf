"""One reply's cost in credit."""

import pytest

from fleet.lane import CREDIT, EventTooLarge, payload_bytes
from fleet.lane.reply import EVENT_BYTES, LARGEST_EVENT
from protos import chat_pb2 as pb
from tests.unit.fleet.lane.sending import make_sender


def test_an_event_that_no_gateway_accepts_is_refused() -> None:
    sender, reply = make_sender()
    with pytest.raises(EventTooLarge):
        sender.put(reply, pb.ReplyEvent(custom=pb.Custom(json="x" * LARGEST_EVENT)))
    assert sender.idle


def test_credit_is_counted_in_bytes_of_utf8() -> None:
    sender, stream = make_sender()
    sender.write(stream, "text", "漢é")
    sender.due(0.0)
    assert CREDIT - stream.credit == 5
    assert payload_bytes(pb.ReplyEvent(text="漢é")) == 5
    assert payload_bytes(pb.ReplyEvent(tool_call=pb.ToolCall(id="1", name="f", arguments="{}"))) == 4 + EVENT_BYTES
    assert payload_bytes(pb.ReplyEvent(done=pb.Done())) == 0
