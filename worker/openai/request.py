"""What is asked of a model's server: small arguments, which the SDK checks, and large parts, which it does not see."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from autogen_core.models import LLMMessage, SystemMessage, UserMessage
from autogen_core.tools import Tool, ToolSchema
from autogen_ext.models.openai._openai_client import BaseOpenAIChatCompletionClient

from fleet.process.turns import Turns

Json = dict[str, Any]

LARGE = ("messages", "tools", "response_format", "stop", "metadata", "logit_bias")
"""Fields of a request that may be large. The SDK's own pass over them costs 0.4 ms a message and changes nothing."""

STEP = 100
"""Messages, or parts of them, that AutoGen converts in one step of about 1 ms."""


_NEXT = UserMessage(content="next", source="user")
"""Stands for what follows a step's messages: AutoGen strips the end of a conversation for some models."""
_NOTHING: tuple[Any, ...] = ((), "auto", None, {})


@dataclass
class Request:
    """One request's arguments. Values of ``large`` may hold :class:`orjson.Fragment`."""

    arguments: Json
    large: Json


async def build(
    client: BaseOpenAIChatCompletionClient,
    turns: Turns,
    messages: Sequence[LLMMessage],
    tools: Sequence[Tool | ToolSchema],
    tool_choice: Tool | Literal["auto", "required", "none"],
    json_output: bool | None,
    extra: Mapping[str, Any],
) -> Request:
    """A request as AutoGen's client makes it, but in turns. Raises ``ValueError`` for what the model cannot do."""
    given: tuple[Any, ...] = tools, tool_choice, json_output, extra
    arguments: Json | None = None
    large: Json = {"messages": []}
    async with turns.turn(short=sum(map(_weight, messages)) < STEP // 10) as turn:
        for start, end in _steps(messages, whole_system=not client.model_info.get("multiple_system_messages", False)):
            await turn.pause()
            more = end < len(messages)
            step = [*messages[start:end], _NEXT] if more else messages[start:end]
            params = client._process_create_args(step, *given)
            large["messages"] += params.messages[:-1] if more else params.messages
            if arguments is None:
                arguments, given = dict(params.create_args), _NOTHING
                large |= {"tools": params.tools} if params.tools else {}
    assert arguments is not None, "there is at least one step"
    large |= {name: arguments.pop(name) for name in LARGE if name in arguments}
    return Request(arguments, large)


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
