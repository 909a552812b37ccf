"""A ``ChatHistory`` as the messages of AutoGen's model clients."""

import re
from base64 import b64decode, b64encode
from io import BytesIO
from typing import Any, Literal

import PIL.Image
from autogen_core import FunctionCall, Image
from autogen_core.models import (
    AssistantMessage,
    FunctionExecutionResult,
    FunctionExecutionResultMessage,
    LLMMessage,
    SystemMessage,
    UserMessage,
)

from fleet.turns import Turn
from protos import chat_pb2 as pb


class SentImage(Image):
    """An image as the user sent it: AutoGen's own would decode it and encode it anew as PNG.

    OpenAI's clients take it unharmed, by data or by URL; clients that ask for its pixels get them, but for a URL's.
    """

    def __init__(self, sent: pb.Image) -> None:
        self._sent = sent

    @property
    def image(self) -> PIL.Image.Image:  # type: ignore[override]
        """The pixels. Raises :class:`Unsupported`."""
        try:
            return PIL.Image.open(BytesIO(self._bytes())).convert("RGB")
        except Unsupported:
            raise
        except (OSError, ValueError) as error:
            raise Unsupported("an image cannot be decoded") from error

    @property
    def url(self) -> str:
        """What OpenAI's API takes."""
        if self._sent.WhichOneof("source") == "url":
            return self._sent.url
        return f"data:{self._sent.media_type or 'image/png'};base64,{b64encode(self._sent.data).decode()}"

    def to_openai_format(self, detail: Literal["auto", "low", "high"] = "auto") -> dict[str, Any]:
        """See ``Image``; the user's own ``detail`` goes before the argument."""
        return {"type": "image_url", "image_url": {"url": self.url, "detail": self._sent.detail or detail}}

    def _bytes(self) -> bytes:
        if self._sent.WhichOneof("source") == "data":
            return self._sent.data
        head, comma, data = self._sent.url.partition(",")
        if not comma or not head.endswith(";base64"):
            raise Unsupported("this model takes images as data, not by URL")
        return b64decode(data)


class Unsupported(ValueError):
    """The history holds something that this worker cannot pass on; its text says what, for the user."""


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
            calls = [FunctionCall(id=call.id, name=call.name, arguments=call.arguments) for call in message.tool_calls]
            return AssistantMessage(content=calls, thought=_text(message) or None, source=_name(message.source))
        case pb.ROLE_ASSISTANT:
            return AssistantMessage(content=_text(message), source=_name(message.source))
        case pb.ROLE_TOOL:
            return FunctionExecutionResultMessage(
                content=[
                    FunctionExecutionResult(
                        content=result.content, name=result.name, call_id=result.call_id, is_error=result.is_error
                    )
                    for result in message.tool_results
                ]
            )
        case _:
            return UserMessage(content=_content(message), source=_name(message.source or "user"))


def _text(message: pb.ChatMessage) -> str:
    if any(part.WhichOneof("part") == "image" for part in message.content):
        raise Unsupported("only user messages can hold images")
    return "".join(part.text for part in message.content)


def _content(message: pb.ChatMessage) -> str | list[str | Image]:
    if len(message.content) == 1 and message.content[0].WhichOneof("part") == "text":
        return message.content[0].text
    return [
        SentImage(part.image) if part.WhichOneof("part") == "image" else part.text for part in message.content
    ] or ""


def _name(source: str) -> str:
    """An agent's name as model clients take it: at most 64 letters, digits, ``_`` and ``-``."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", source)[:64] or "assistant"
