"""A request's options as arguments of a client."""

from typing import Any

import pytest

from fleet.process.turns import Turns
from protos import chat_pb2 as pb
from worker.contract import options
from worker.contract.errors import Unsupported


async def arguments(**given: Any) -> dict[str, Any]:
    async with Turns().turn() as turn:
        return await options.arguments(pb.ChatOptions(**given), turn)


async def test_options_that_say_nothing_are_no_arguments() -> None:
    assert await arguments() == {}


async def test_a_tool_is_declared_as_the_client_wrote_it() -> None:
    tool = pb.Tool(name="f", description="d", parameters='{"type": "object"}', strict=True)
    (declared,) = (await arguments(tools=[tool]))["tools"]
    assert declared.schema == {"name": "f", "description": "d", "parameters": {"type": "object"}, "strict": True}
    with pytest.raises(NotImplementedError):
        await declared.run(None, None)


async def test_a_tool_without_parameters_has_none() -> None:
    (declared,) = (await arguments(tools=[pb.Tool(name="f")]))["tools"]
    assert declared.schema == {"name": "f", "description": ""}


@pytest.mark.parametrize("choice", ["auto", "none", "required"])
async def test_a_choice_of_tools_is_passed_on(choice: str) -> None:
    assert (await arguments(tool_choice=choice))["tool_choice"] == choice


async def test_a_tool_is_chosen_by_name() -> None:
    tools = [pb.Tool(name="f"), pb.Tool(name="g")]
    given = await arguments(tools=tools, tool_choice="tool:g")
    assert given["tool_choice"] is given["tools"][1]
    with pytest.raises(ValueError, match="no tool is named 'h'"):
        await arguments(tools=tools, tool_choice="tool:h")


async def test_further_arguments_keep_their_names() -> None:
    given = await arguments(extra='{"temperature": 0.5}', response_format='{"type": "json_object"}')
    assert given == {"extra_create_args": {"temperature": 0.5, "response_format": {"type": "json_object"}}}


@pytest.mark.parametrize(
    "given",
    [
        {"other": '{"top_k": 1}'},
        {"other": '{"tool_choice": {"type": "allowed_tools"}}'},
        {"tools": [pb.Tool(other='{"type": "custom"}')]},
    ],
)
async def test_what_autogen_has_no_place_for_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(Unsupported, match="client"):
        await arguments(**given)


async def test_hints_and_nulls_may_be_left_out() -> None:
    assert await arguments(other='{"store": true, "top_k": null, "tools": []}') == {}
