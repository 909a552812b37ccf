"""Histories as AutoGen's messages."""

import asyncio
from io import BytesIO

import PIL.Image
import pytest
from autogen_core import FunctionCall, Image
from autogen_core.models import AssistantMessage, FunctionExecutionResultMessage, LLMMessage, SystemMessage, UserMessage

from fleet.process.turns import Turns
from protos import chat_pb2 as pb
from worker.contract import conversation
from worker.contract.errors import Unsupported


def messages(history: pb.ChatHistory, system_message: str) -> list[LLMMessage]:
    async def found() -> list[LLMMessage]:
        async with Turns().turn() as first:
            return await conversation.messages(history, system_message, first)

    return asyncio.run(found())


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


def sent(image: pb.Image) -> Image:
    parts = [pb.ContentPart(text="look"), pb.ContentPart(image=image)]
    history = pb.ChatHistory(messages=[pb.ChatMessage(role=pb.ROLE_USER, source="user", content=parts)])
    [message] = messages(history, "")
    assert isinstance(message, UserMessage)
    assert message.content[0] == "look"
    made = message.content[1]
    assert isinstance(made, Image)
    return made


@pytest.mark.parametrize("url", ["https://x.example/a.png", "data:image/jpeg;base64,QUJD"])
def test_an_image_is_passed_on_as_it_was_sent(url: str) -> None:
    assert sent(pb.Image(url=url, detail="low")).to_openai_format() == {
        "type": "image_url",
        "image_url": {"url": url, "detail": "low"},
    }


def test_an_image_file_becomes_a_data_url() -> None:
    assert sent(pb.Image(data=b"ABC", media_type="image/gif")).to_openai_format() == {
        "type": "image_url",
        "image_url": {"url": "data:image/gif;base64,QUJD", "detail": "auto"},
    }


def test_a_client_that_wants_pixels_gets_them_but_for_a_url() -> None:
    buffer = BytesIO()
    PIL.Image.new("RGB", (2, 3)).save(buffer, "PNG")
    assert sent(pb.Image(data=buffer.getvalue())).image.size == (2, 3)
    with pytest.raises(Unsupported, match="not by URL"):
        _ = sent(pb.Image(url="https://x.example/a.png")).image
    with pytest.raises(Unsupported, match="cannot be decoded"):
        _ = sent(pb.Image(data=b"ABC")).image


def test_several_texts_of_a_user_stay_apart() -> None:
    parts = [pb.ContentPart(text="a"), pb.ContentPart(text="b")]
    history = pb.ChatHistory(messages=[pb.ChatMessage(role=pb.ROLE_USER, source="user", content=parts)])
    assert messages(history, "") == [UserMessage(content=["a", "b"], source="user")]
