"""A tool call as an event."""

import pytest

from protos import chat_pb2 as pb
from worker.contract.errors import StreamBroken
from worker.contract.tool_call import ID_LIMIT, NAME_LIMIT, tool_call


def test_half_a_character_can_be_sent_all_the_same() -> None:
    event = tool_call(3, "i\ud83d", "n\ude00", "a\ud83d\ude00")
    assert event.tool_call == pb.ToolCall(index=3, id="i\ufffd", name="n\ufffd", arguments="a\U0001f600")


@pytest.mark.parametrize(("id_", "name"), [("i" * (ID_LIMIT + 1), ""), ("", "n" * (NAME_LIMIT + 1))])
def test_a_long_id_or_name_is_the_models_fault(id_: str, name: str) -> None:
    with pytest.raises(StreamBroken, match="longer than 16,384 characters"):
        tool_call(0, id_, name, "")
    tool_call(0, id_[1:], name[1:], "a" * 100_000)
