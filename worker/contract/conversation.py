"""A ``ChatHistory`` as the messages of AutoGen's model clients."""

import re

from autogen_core import FunctionCall, Image
from autogen_core.models import (
    AssistantMessage,
    FunctionExecutionResult,
    FunctionExecutionResultMessage,
    LLMMessage,
    SystemMessage,
    UserMessage,
)

from fleet.process.turns import Turn
from protos import chat_pb2 as pb
from worker.contract.errors import Unsupported
from worker.contract.images import SentImage


async def messages(history: pb.ChatHistory, system_message: str, turn: Turn) -> list[LLMMessage]:
    """The whole conversation, the model's own system message first.

    A role that this version does not know counts as the user's. Raises :class:`Unsupported`.
    """
    found: list[LLMMessage] = [SystemMessage(content=system_message)] if system_message else []
    for message in history.messages:
        await turn.pause()
        found.append(_message(message))
    return found


def _message(message: pb.ChatMessage) -> LLMMessage:
    match message.role:
        case pb.ROLE_SYSTEM:
            return SystemMessage(content=_text(message))
        case pb.ROLE_ASSISTANT if message.tool_calls:
            if not all(call.name for call in message.tool_calls):
                raise Unsupported("this model's client takes calls of type function only")
            calls = [FunctionCall(id=call.id, name=call.name, arguments=call.arguments) for call in message.tool_calls]
            return AssistantMessage(content=calls, thought=_text(message) or None, source=_name(message.source))
        case pb.ROLE_ASSISTANT:
            return AssistantMessage(content=_text(message), source=_name(message.source))
        case pb.ROLE_TOOL:
            return FunctionExecutionResultMessage(
                content=[
                    FunctionExecutionResult(
                        content=result.content or _text(message),
                        name=result.name,
                        call_id=result.call_id,
                        is_error=result.is_error,
                    )
                    for result in message.tool_results
                ]
            )
        case _:
            return UserMessage(content=_content(message), source=_name(message.source or "user"))


def _text(message: pb.ChatMessage) -> str:
    if any(part.WhichOneof("part") == "image" for part in message.content):
        raise Unsupported("only user messages can hold images")
    _refuse_other(message)
    return "".join(part.text for part in message.content)


def _content(message: pb.ChatMessage) -> str | list[str | Image]:
    _refuse_other(message)
    if len(message.content) == 1 and message.content[0].WhichOneof("part") == "text":
        return message.content[0].text
    return [
        SentImage(part.image) if part.WhichOneof("part") == "image" else part.text for part in message.content
    ] or ""


def _refuse_other(message: pb.ChatMessage) -> None:
    if any(part.WhichOneof("part") == "other" for part in message.content):
        raise Unsupported("this model's client takes parts of text and images only")


def _name(source: str) -> str:
    """An agent's name as model clients take it: at most 64 letters, digits, ``_`` and ``-``."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", source)[:64] or "assistant"
