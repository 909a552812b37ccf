"""What every client is made to do: the questions, and what the model's side then has to have seen."""

import dataclasses
import json
import secrets
from typing import Any

from tests.schedule import Schedule

Json = dict[str, Any]

CALL = {"id": "call_Zq7", "name": "get_weather", "arguments": '{"city": "Zürich", "note": "a \\"b\\" 漢字 👩‍🚀"}'}
SECOND_CALL = {"id": "call_b-2", "name": "get_time", "arguments": "{}"}
RESULT = 'sunny, 23 °C\n{"wind": "\\u00fc"} 👩‍🚀'
PARAMETERS: Json = {
    "type": "object",
    "properties": {"city": {"type": "string", "description": "where"}, "note": {"type": ["string", "null"]}},
    "required": ["city"],
    "additionalProperties": False,
}
WEATHER: Json = {
    "type": "function",
    "function": {"name": "get_weather", "description": "The weather somewhere.", "parameters": PARAMETERS},
}
CLOCK: Json = {
    "type": "function",
    "function": {"name": "get_time", "description": "", "parameters": {"type": "object", "properties": {}}},
}


def tag() -> str:
    """A name under which the backend's record of one question can be found."""
    return f"client-{secrets.token_hex(8)}"


def tools_question(*calls: Json, **fields: Any) -> Schedule:
    """A question that the model answers with ``calls``, and after their results with text."""
    return Schedule(tag=tag(), tool_calls=list(calls or (CALL,)), text="It is sunny in Zürich.", **fields)


def assert_took_the_round_trip(records: list[Json], question: str, *results: Json) -> None:
    """The backend was offered the tools, made its calls, and got them back with their results, unharmed."""
    first, second = (record["body"] for record in records)
    offered = {tool["function"]["name"]: tool["function"] for tool in first["tools"]}
    assert offered["get_weather"]["parameters"] == PARAMETERS
    assert offered["get_weather"]["description"] == "The weather somewhere."
    turns = second["messages"][1:]  # the first one is the fleet's own system message
    assert [turn["role"] for turn in turns] == ["user", "assistant", *["tool"] * len(results)]
    assert turns[0]["content"] == question
    calls = turns[1]["tool_calls"]
    assert len(calls) == len(results)
    for call, turn, result in zip(calls, turns[2:], results, strict=True):
        assert call == {
            "id": result["id"],
            "type": "function",
            "function": {"name": result["name"], "arguments": call["function"]["arguments"]},
        }
        assert json.loads(call["function"]["arguments"]) == json.loads(result["arguments"])
        assert turn["tool_call_id"] == result["id"]
        assert turn["content"] == result["result"]


def told(schedule: Schedule) -> Schedule:
    """The schedule with a tag of its own."""
    return dataclasses.replace(schedule, tag=tag())
