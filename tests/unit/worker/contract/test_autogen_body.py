"""What agents say in AutoGen's types, as the body of a chat completion request."""

from typing import Any

import pytest
from autogen_core import FunctionCall
from autogen_core.models import (
    AssistantMessage,
    FunctionExecutionResult,
    FunctionExecutionResultMessage,
    LLMMessage,
    SystemMessage,
    UserMessage,
)
from autogen_core.tools import FunctionTool, ToolSchema
from autogen_ext.models.openai._openai_client import to_oai_type
from pydantic import BaseModel

from worker.contract.autogen_body import autogen_body

CALL = FunctionCall(id="c", name="f", arguments="{}")
RESULT = FunctionExecutionResult(call_id="c", name="f", content="r", is_error=False)
MESSAGES: list[LLMMessage] = [
    SystemMessage(content="s"),
    UserMessage(content="hi", source="a"),
    UserMessage(content=["hi"], source="a"),
    AssistantMessage(content="b", source="b"),
    AssistantMessage(content=[CALL], source="b", thought="t"),
    AssistantMessage(content=[CALL], source="b"),
    FunctionExecutionResultMessage(content=[RESULT]),
]
TOOL = ToolSchema(name="f", description="d")


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message.type)
def test_a_message_is_what_autogens_client_makes_of_it(message: LLMMessage) -> None:
    (made,) = autogen_body([message])["messages"]
    (theirs,) = to_oai_type(message, model="m", model_family="unknown", include_name_in_message=True)
    more = {"name": "f"} if made["role"] == "tool" else {}  # which Ollama asks for
    assert made == {**theirs, **more}


def greet() -> str:
    return ""


class Answer(BaseModel):
    yes: bool


@pytest.mark.parametrize(
    ("arguments", "body"),
    [
        ({}, {}),
        ({"tools": [TOOL]}, {"tools": [{"type": "function", "function": TOOL}]}),
        ({"tool_choice": "required"}, {}),
        ({"json_output": True}, {"response_format": {"type": "json_object"}}),
        ({"json_output": False}, {}),
        (
            {"json_output": Answer},
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "Answer", "schema": Answer.model_json_schema()},
                }
            },
        ),
        (
            {"extra_create_args": {"stop": ["x"], "top_k": 5, "extra_body": {"top_k": 1}}},
            {"stop": ["x"], "top_k": 1},
        ),
    ],
)
def test_arguments_are_fields_of_the_body(arguments: dict[str, Any], body: dict[str, Any]) -> None:
    assert autogen_body([], **arguments) == {"messages": [], **body}


def test_a_tool_that_must_be_called_is_named() -> None:
    tool = FunctionTool(greet, description="d")
    body = autogen_body([], tools=[tool, TOOL], tool_choice=tool)
    assert [each["function"]["name"] for each in body["tools"]] == ["greet", "f"]
    assert body["tool_choice"] == {"type": "function", "function": {"name": "greet"}}
    assert autogen_body([], tools=[tool], tool_choice="none")["tool_choice"] == "none"
