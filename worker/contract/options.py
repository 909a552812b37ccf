"""A request's ``ChatOptions`` as arguments of AutoGen's ``create_stream``."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, cast

import orjson
from autogen_core import CancellationToken
from autogen_core.tools import BaseTool, Tool, ToolSchema
from pydantic import BaseModel

from fleet.process.turns import Turn, loads
from protos import chat_pb2 as pb

NAMED = "tool:"
"""Before the name of the one tool that the model must call."""


class DeclaredTool(BaseTool[BaseModel, BaseModel]):
    """A tool that the client runs: the model learns of it here, and its call goes to the client."""

    def __init__(self, declared: pb.Tool, read: Callable[[str], Any]) -> None:
        super().__init__(BaseModel, BaseModel, declared.name, declared.description, declared.strict)
        self._schema = ToolSchema(name=declared.name, description=declared.description)
        if declared.parameters:
            self._schema["parameters"] = read(declared.parameters)
        if declared.strict:
            self._schema["strict"] = True

    @property
    def schema(self) -> ToolSchema:
        return self._schema

    async def run(self, args: BaseModel, cancellation_token: CancellationToken) -> BaseModel:
        """Never called: tools of this kind do not run here."""
        raise NotImplementedError


async def arguments(options: pb.ChatOptions, turn: Turn, *, as_text: bool) -> dict[str, Any]:
    """Keyword arguments for ``create_stream``; none for options that say nothing.

    ``as_text`` leaves schemas as :class:`orjson.Fragment`, for clients that only send them on.
    """
    read: Callable[[str], Any] = orjson.Fragment if as_text else loads
    found: dict[str, Any] = {}
    tools: list[DeclaredTool] = []
    for tool in options.tools:
        await turn.pause()
        tools.append(DeclaredTool(tool, read))
    if tools:
        found["tools"] = tools
    if options.tool_choice:
        found["tool_choice"] = _choice(options.tool_choice, tools)
    extra: Mapping[str, Any] = orjson.loads(options.extra) if options.extra else {}
    if options.response_format:
        extra = {**extra, "response_format": read(options.response_format)}
    if extra:
        found["extra_create_args"] = extra
    return found


def _choice(choice: str, tools: list[DeclaredTool]) -> Tool | Literal["auto", "required", "none"]:
    if choice.startswith(NAMED):
        name = choice.removeprefix(NAMED)
        for tool in tools:
            if tool.name == name:
                return tool
        raise ValueError(f"tool_choice: no tool is named {name!r}")
    return cast("Literal['auto', 'required', 'none']", choice)
