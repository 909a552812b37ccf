"""What agents say to a model in AutoGen's types, as the body of a chat completion request."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from autogen_core import Image
from autogen_core.models import (
    AssistantMessage,
    FunctionExecutionResultMessage,
    LLMMessage,
    SystemMessage,
    UserMessage,
)
from autogen_core.tools import Tool, ToolSchema
from pydantic import BaseModel

Json = dict[str, Any]


def autogen_body(
    messages: Sequence[LLMMessage],
    *,
    tools: Sequence[Tool | ToolSchema] = (),
    tool_choice: Tool | Literal["auto", "required", "none"] = "auto",
    json_output: bool | type[BaseModel] | None = None,
    extra_create_args: Mapping[str, Any] | None = None,
) -> Json:
    """The body; the arguments are those of ``ChatCompletionClient.create``."""
    body: Json = {"messages": [made for message in messages for made in _messages(message)]}
    if tools:
        body["tools"] = [{"type": "function", "function": dict(_schema(tool))} for tool in tools]
        if isinstance(tool_choice, Tool):
            body["tool_choice"] = {"type": "function", "function": {"name": tool_choice.name}}
        elif tool_choice != "auto":
            body["tool_choice"] = tool_choice
    if json_output:
        body["response_format"] = _format(json_output)
    extra = dict(extra_create_args or {})
    more: Json = extra.pop("extra_body", {})
    return body | extra | more


def _schema(tool: Tool | ToolSchema) -> ToolSchema:
    return tool.schema if isinstance(tool, Tool) else tool


def _format(output: Literal[True] | type[BaseModel]) -> Json:
    if output is True:
        return {"type": "json_object"}
    schema = {"name": output.__name__, "schema": output.model_json_schema()}
    return {"type": "json_schema", "json_schema": schema}


def _messages(message: LLMMessage) -> list[Json]:
    match message:
        case SystemMessage():
            return [{"role": "system", "content": message.content}]
        case UserMessage():
            return [{"role": "user", "name": message.source, "content": _content(message.content)}]
        case AssistantMessage(content=str()):
            return [{"role": "assistant", "content": message.content}]
        case AssistantMessage():
            calls = [
                {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
                for call in message.content
                if not isinstance(call, str)
            ]
            return [{"role": "assistant", "content": message.thought, "tool_calls": calls}]
        case FunctionExecutionResultMessage():
            return [
                {"role": "tool", "tool_call_id": result.call_id, "name": result.name, "content": result.content}
                for result in message.content
            ]


def _content(content: str | list[str | Image]) -> str | list[Json]:
    if isinstance(content, str):
        return content
    return [
        dict(part.to_openai_format()) if isinstance(part, Image) else {"type": "text", "text": part} for part in content
    ]
