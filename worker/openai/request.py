"""The body of a request to a model's server, converted by AutoGen's client in steps that do not hold up the loop."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from autogen_core.models import LLMMessage, SystemMessage, UserMessage
from autogen_core.tools import Tool, ToolSchema
from autogen_ext.models.openai._openai_client import BaseOpenAIChatCompletionClient

from fleet.process.turns import Turns

Json = dict[str, Any]

STEP = 100
"""Messages, or parts of them, that AutoGen converts in one step of about 1 ms."""

_NEXT = UserMessage(content="next", source="user")
"""Stands for what follows a step's messages: AutoGen strips the end of a conversation for some models."""
_NOTHING: tuple[Any, ...] = ((), "auto", None, {})


async def build(
    client: BaseOpenAIChatCompletionClient,
    turns: Turns,
    messages: Sequence[LLMMessage],
    tools: Sequence[Tool | ToolSchema],
    tool_choice: Tool | Literal["auto", "required", "none"],
    json_output: bool | None,
    extra: Mapping[str, Any],
) -> Json:
    """The body as AutoGen's client makes it; its values may hold :class:`orjson.Fragment`.

    Raises ``ValueError`` for what the model cannot do.
    """
    given: tuple[Any, ...] = tools, tool_choice, json_output, extra
    body: Json = {}
    converted: list[Any] = []
    async with turns.turn(short=sum(map(_weight, messages)) < STEP // 10) as turn:
        for start, end in _steps(messages, whole_system=not client.model_info.get("multiple_system_messages", False)):
            await turn.pause()
            more = end < len(messages)
            step = [*messages[start:end], _NEXT] if more else messages[start:end]
            params = client._process_create_args(step, *given)
            converted += params.messages[:-1] if more else params.messages
            if not body:
                body, given = dict(params.create_args), _NOTHING
                if params.tools:
                    body["tools"] = params.tools
    return body | {"messages": converted}


def _steps(messages: Sequence[LLMMessage], *, whole_system: bool) -> Iterator[tuple[int, int]]:
    """Where to cut the messages. With ``whole_system`` all system messages are in one step, which merges them."""
    first = last = -1
    if whole_system:
        system = [index for index, message in enumerate(messages) if isinstance(message, SystemMessage)]
        if system and system[-1] - system[0] + 1 == len(system):
            first, last = system[0], system[-1]
        elif system:  # AutoGen refuses them before it converts anything
            yield 0, len(messages)
            return
    start = weight = 0
    for index, message in enumerate(messages):
        weight += _weight(message)
        if weight >= STEP and not first <= index < last:
            yield start, index + 1
            start, weight = index + 1, 0
    if start < len(messages) or not messages:
        yield start, len(messages)


def _weight(message: LLMMessage) -> int:
    """What its conversion costs: its parts."""
    return len(message.content) if isinstance(message.content, list) else 1
