"""Every field is translated, refused by name or passed on."""

from typing import Any

import orjson
import pytest

from fleet.process.turns import Turns
from worker.contract.errors import Unsupported
from worker.ollama.request import Sent, chat, fields

HI = {"role": "user", "content": "hi"}
NESTED = {
    "type": "object",
    "$defs": {"P": {"type": "object", "properties": {"x": {"type": "integer", "enum": [1, 2]}}}},
    "properties": {"a": {"type": "array", "items": {"$ref": "#/$defs/P"}}, "b": {"anyOf": [{"type": "null"}]}},
    "required": ["a"],
    "additionalProperties": False,
}
TOOL = {"type": "function", "function": {"name": "get", "parameters": NESTED, "strict": True}}


async def asked(body: dict[str, Any], **entry: Any) -> Any:
    """What Ollama would be sent for ``body``, with an entry of ``models.yaml``."""
    async with Turns().turn() as turn:
        made, _ = await chat(fields(entry), {"messages": [HI], **body}, turn)
    return orjson.loads(orjson.dumps(made))


async def message(said: dict[str, Any], *before: dict[str, Any]) -> Any:
    return (await asked({"messages": [*before, said]}))["messages"][-1]


@pytest.mark.parametrize(
    ("body", "sent"),
    [
        ({}, {}),
        ({"max_tokens": 5}, {"options": {"num_predict": 5}}),
        ({"max_completion_tokens": 5}, {"options": {"num_predict": 5}}),
        ({"max_tokens": 5, "num_predict": 6}, {"options": {"num_predict": 6}}),
        ({"stop": "a"}, {"options": {"stop": ["a"]}}),
        ({"stop": ["a", "b"]}, {"options": {"stop": ["a", "b"]}}),
        (
            {"seed": 1, "temperature": 0, "top_p": 0.5, "top_k": 3, "min_p": 0.1, "presence_penalty": 1},
            {"options": {"seed": 1, "temperature": 0, "top_p": 0.5, "top_k": 3, "min_p": 0.1, "presence_penalty": 1}},
        ),
        ({"repetition_penalty": 1.1}, {"options": {"repeat_penalty": 1.1}}),
        ({"num_ctx": 8192, "options": {"new": 1}}, {"options": {"num_ctx": 8192, "new": 1}}),
        ({"seed": 1, "options": {"seed": 2}}, {"options": {"seed": 2}}),
        (
            {"keep_alive": "5m", "think": "low", "truncate": False},
            {"keep_alive": "5m", "think": "low", "truncate": False},
        ),
        ({"response_format": {"type": "json_object"}}, {"format": "json"}),
        ({"response_format": {"type": "json_object", "schema": NESTED}}, {"format": NESTED}),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": NESTED}}},
            {"format": NESTED},
        ),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "n"}}}, {"format": "json"}),
        ({"response_format": {"type": "text"}}, {}),
        ({"format": NESTED, "response_format": {"type": "json_object"}}, {"format": NESTED}),
        ({"reasoning_effort": "none"}, {"think": False}),
        ({"reasoning_effort": "minimal"}, {"think": "low"}),
        ({"reasoning_effort": "high"}, {"think": "high"}),
        ({"reasoning": {"effort": "medium"}}, {"think": "medium"}),
        ({"reasoning": {"enabled": False}}, {"think": False}),
        ({"think": False, "reasoning_effort": "high"}, {"think": False}),
        ({"logprobs": True, "top_logprobs": 2}, {"logprobs": True, "top_logprobs": 2}),
        ({"tools": [TOOL]}, {"tools": [TOOL]}),
        ({"tools": [TOOL], "tool_choice": "auto"}, {"tools": [TOOL]}),
        ({"tools": [TOOL], "tool_choice": "none"}, {}),
        ({"tools": []}, {}),
        ({"n": 1, "parallel_tool_calls": True, "logit_bias": {}, "functions": [], "seed": None}, {}),
        ({"stream_options": {"include_usage": True}}, {}),
        ({"user": "u", "metadata": {"a": "b"}, "new_field": 1}, {"user": "u", "metadata": {"a": "b"}, "new_field": 1}),
    ],
    ids=repr,
)
async def test_fields_in_ollamas_words(body: dict[str, Any], sent: dict[str, Any]) -> None:
    assert await asked(body) == {"messages": [HI], **sent}


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"logit_bias": {"1": 5}}, "logit_bias"),
        ({"n": 2}, "n: "),
        ({"parallel_tool_calls": False}, "parallel_tool_calls"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"thinking": {"type": "enabled"}}, "thinking"),
        ({"reasoning": {"max_tokens": 5}}, "reasoning.max_tokens"),
        ({"reasoning": 5}, "reasoning"),
        ({"options": [1]}, "options"),
        ({"response_format": {"type": "grammar"}}, "response_format.type: .*'grammar'"),
        ({"response_format": "json"}, "response_format"),
        ({"tools": [TOOL], "tool_choice": "required"}, "tool_choice: .*'required'"),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "get"}}}, "tool_choice"),
        ({"tools": [TOOL, {"type": "custom", "custom": {"name": "c"}}]}, r"tools\[1\]: "),
        ({"tools": [5]}, r"tools\[0\]"),
        (
            {"messages": [{"role": "user", "content": [{"type": "file", "file": {}}]}]},
            r"messages\[0\].content\[0\]: .*file",
        ),
        ({"messages": [{"role": "user", "content": [5]}]}, r"messages\[0\].content\[0\]"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}, r"content\[0\]"),
        (
            {"messages": [HI, {"role": "assistant", "tool_calls": [{"type": "custom"}]}]},
            r"messages\[1\].tool_calls\[0\].type",
        ),
        ({"messages": [{"role": "assistant", "function_call": {"name": "f"}}]}, "function_call"),
    ],
    ids=repr,
)
async def test_what_ollama_has_no_word_for_is_refused_by_name(body: dict[str, Any], named: str) -> None:
    with pytest.raises(Unsupported, match=named):
        await asked(body)


async def test_a_requests_options_go_before_its_entrys() -> None:
    entry = {"options": {"num_ctx": 4096, "seed": 1}, "temperature": 0.5, "keep_alive": -1, "format": "json"}
    sent = await asked({"seed": 2, "response_format": {"type": "text"}}, **entry)
    assert sent == {"messages": [HI], "options": {"num_ctx": 4096, "seed": 2, "temperature": 0.5}, "keep_alive": -1}
    assert (await asked({}, **entry))["format"] == "json"


async def test_nothing_of_a_request_is_left_for_the_next() -> None:
    defaults = fields({"options": {"num_ctx": 1}, "stop": "x"})
    before = orjson.dumps(defaults)
    async with Turns().turn() as turn:
        await chat(defaults, {"messages": [HI], "tools": [TOOL], "seed": 1, "stop": ["y"], "options": {"a": 1}}, turn)
    assert orjson.dumps(defaults) == before


@pytest.mark.parametrize(
    ("said", "sent"),
    [
        ({"role": "developer", "content": "d"}, {"role": "system", "content": "d"}),
        ({"role": "system", "content": [{"type": "text", "text": "a"}]}, {"role": "system", "content": "a"}),
        (
            {"role": "user", "name": "bob", "content": [{"type": "text", "text": "4"}, {"type": "text", "text": "2"}]},
            {"role": "user", "name": "bob", "content": "4\n2"},
        ),
        (
            {"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "QQ==", "format": "wav"}}]},
            {"role": "user", "content": "", "images": ["QQ=="]},
        ),
        ({"role": "assistant", "content": None, "refusal": "no"}, {"role": "assistant", "content": "no"}),
        (
            {"role": "assistant", "content": "a", "reasoning_content": "r", "reasoning_details": [1]},
            {"role": "assistant", "content": "a", "thinking": "r", "reasoning_details": [1]},
        ),
        (
            {"role": "assistant", "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f"}}]},
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": {}}}],
            },
        ),
        (
            {"role": "tool", "tool_call_id": "9", "name": "f", "content": "x"},
            {"role": "tool", "tool_call_id": "9", "tool_name": "f", "content": "x"},
        ),
        ({"role": "tool", "tool_call_id": "9", "content": "x"}, {"role": "tool", "tool_call_id": "9", "content": "x"}),
    ],
    ids=repr,
)
async def test_messages_in_ollamas_words(said: dict[str, Any], sent: dict[str, Any]) -> None:
    assert await message(said) == sent


async def test_calls_that_come_back_have_arguments_as_objects_and_name_their_results() -> None:
    calls = [
        {"id": id_, "type": "function", "function": {"name": name, "arguments": arguments}}
        for id_, name, arguments in (("c1", "get", '{"a": [1, {"b": "é"}]}'), ("c2", "put", ""))
    ]
    results = [{"role": "tool", "tool_call_id": id_, "content": id_} for id_ in ("c2", "c1")]
    sent = (await asked({"messages": [HI, {"role": "assistant", "tool_calls": calls}, *results]}))["messages"]
    assert [call["function"]["arguments"] for call in sent[1]["tool_calls"]] == [{"a": [1, {"b": "é"}]}, {}]
    assert [(result["tool_call_id"], result["tool_name"]) for result in sent[2:]] == [("c2", "put"), ("c1", "get")]


@pytest.mark.parametrize("arguments", ["{", "[1]", "5", '"a"', "nul", "[" * 100_000])
async def test_arguments_that_are_no_object_are_refused(arguments: str) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": arguments}}
    with pytest.raises(Unsupported, match=r"messages\[0\].tool_calls\[0\].function.arguments"):
        await message({"role": "assistant", "tool_calls": [call]})


async def test_images_are_told_by_their_place() -> None:
    parts = [
        {"type": "image_url", "image_url": {"url": "data:1", "detail": "low"}},
        {"type": "text", "text": "t"},
        {"type": "image_url", "image_url": "data:2"},
    ]
    async with Turns().turn() as turn:
        made, images = await chat({}, {"messages": [HI, {"role": "user", "content": parts}]}, turn)
    assert made["messages"][1] == {"role": "user", "content": "t", "images": ["data:1", "data:2"]}
    assert images == [Sent(made["messages"][1]["images"], 0), Sent(made["messages"][1]["images"], 1)]
