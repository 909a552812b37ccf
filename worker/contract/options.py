"""A request's ``ChatOptions`` as arguments of AutoGen's ``create_stream``."""

from typing import Any, Literal, cast

from autogen_core import CancellationToken
from autogen_core.tools import BaseTool, Tool, ToolSchema
from pydantic import BaseModel

from fleet.process.turns import Turn, loads
from protos import chat_pb2 as pb
from worker.contract.body import NAMED
from worker.contract.errors import Unsupported

HINTS = frozenset(
    {"metadata", "n", "prompt_cache_key", "safety_identifier", "service_tier", "store", "stream_options", "user"}
)
"""Fields that change nothing about the answer's content: a client that has no place for them may leave them out."""


class DeclaredTool(BaseTool[BaseModel, BaseModel]):
    """A tool that the client runs: the model learns of it here, and its call goes to the client."""

    def __init__(self, declared: pb.Tool) -> None:
        super().__init__(BaseModel, BaseModel, declared.name, declared.description, declared.strict)
        self._schema = ToolSchema(name=declared.name, description=declared.description)
        if declared.parameters:
            self._schema["parameters"] = loads(declared.parameters)
        if declared.strict:
            self._schema["strict"] = True

    @property
    def schema(self) -> ToolSchema:
        return self._schema

    async def run(self, args: BaseModel, cancellation_token: CancellationToken) -> BaseModel:
        """Never called: tools of this kind do not run here."""
        raise NotImplementedError


async def arguments(options: pb.ChatOptions, turn: Turn) -> dict[str, Any]:
    """Keyword arguments for ``create_stream``; none for options that say nothing. Raises :class:`Unsupported`."""
    found: dict[str, Any] = {}
    tools: list[DeclaredTool] = []
    for tool in options.tools:
        await turn.pause()
        if tool.other:
            raise Unsupported("this model's client takes tools of type function only")
        tools.append(DeclaredTool(tool))
    if tools:
        found["tools"] = tools
    if options.tool_choice:
        found["tool_choice"] = _choice(options.tool_choice, tools)
    extra: dict[str, Any] = loads(options.extra) if options.extra else {}
    if options.response_format:
        extra["response_format"] = loads(options.response_format)
    for name, value in loads(options.other).items() if options.other else ():
        if value not in (None, []) and name not in HINTS:
            raise Unsupported(f"{name[:100]}: this model's client has no place for it")
    if extra:
        found["extra_create_args"] = extra
    return found


def _choice(choice: str, tools: list[DeclaredTool]) -> Tool | Literal["auto", "required", "none"]:
    if choice.startswith(NAMED):
        name = choice.removeprefix(NAMED)
        for tool in tools:
            if tool.name == name:
                return tool
        raise Unsupported(f"tool_choice: no tool is named {name[:100]!r}")
    return cast("Literal['auto', 'required', 'none']", choice)
