"""Histories as AutoGen's messages."""

import pytest
from autogen_core import FunctionCall
from autogen_core.models import AssistantMessage, FunctionExecutionResultMessage, SystemMessage, UserMessage

from protos import chat_pb2 as pb
from worker.conversation import Unsupported, messages


def turn(role: pb.Role, source: str, *texts: str) -> pb.ChatMessage:
    return pb.ChatMessage(role=role, source=source, content=[pb.ContentPart(text=text) for text in texts])


def test_the_whole_conversation_with_the_models_own_message_first() -> None:
    history = pb.ChatHistory(
        messages=[
            turn(pb.ROLE_SYSTEM, "system", "be", " brief"),
            turn(pb.ROLE_USER, "user", "hello"),
            turn(pb.ROLE_ASSISTANT, "critic 1", "hi"),
        ]
    )
    assert messages(history, "own") == [
        SystemMessage(content="own"),
        SystemMessage(content="be brief"),
        UserMessage(content="hello", source="user"),
        AssistantMessage(content="hi", source="critic_1"),
    ]
    assert messages(history, "")[0] == SystemMessage(content="be brief")


def test_tool_calls_and_their_results_have_their_place() -> None:
    call = pb.ChatMessage(
        role=pb.ROLE_ASSISTANT, source="a", tool_calls=[pb.ToolCall(id="1", name="f", arguments="{}")]
    )
    result = pb.ChatMessage(
        role=pb.ROLE_TOOL, source="f", tool_results=[pb.ToolResult(call_id="1", name="f", content="42")]
    )
    asked, answered = messages(pb.ChatHistory(messages=[call, result]), "")
    assert isinstance(asked, AssistantMessage)
    assert asked.content == [FunctionCall(id="1", name="f", arguments="{}")]
    assert isinstance(answered, FunctionExecutionResultMessage)
    assert answered.content[0].content == "42"


def test_a_role_of_a_later_version_counts_as_the_users() -> None:
    message = pb.ChatMessage.FromString(turn(pb.ROLE_USER, "x", "hi").SerializeToString() + b"\x08\x63")
    assert messages(pb.ChatHistory(messages=[message]), "") == [UserMessage(content="hi", source="x")]


def test_an_image_url_is_refused_by_name() -> None:
    part = pb.ContentPart(image=pb.Image(url="https://x.example/a.png"))
    history = pb.ChatHistory(messages=[pb.ChatMessage(role=pb.ROLE_USER, source="user", content=[part])])
    with pytest.raises(Unsupported, match="not as a URL"):
        messages(history, "")
