"""A chat completion's body as a request of the Messages API: nothing is lost, or it is refused by name."""

import asyncio
import copy
from base64 import b64encode
from typing import Any

import orjson
import pytest
from autogen_core.models import ModelInfo

from fleet.process.turns import Turns
from worker.claude.client import INFO
from worker.claude.request import request
from worker.contract.errors import Unsupported

HI = {"role": "user", "content": "hi"}
CACHE = {"type": "ephemeral"}
PNG = "iVBORw0KGgo="
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
SCHEMA = {
    "$defs": {"Colour": {"enum": ["red", "blue"], "type": "string"}},
    "properties": {"colours": {"items": {"$ref": "#/$defs/Colour"}, "type": "array"}},
    "required": ["colours"],
    "additionalProperties": False,
}
TOOL = {"type": "function", "function": {"name": "f", "description": "d", "parameters": SCHEMA}}


def sent(*messages: dict[str, Any], defaults: dict[str, Any] | None = None, info: ModelInfo = INFO, **body: Any) -> Any:
    """What goes to Claude, as JSON."""

    async def ask() -> Any:
        asked = {"messages": list(messages or [HI]), **body}
        before = copy.deepcopy(asked)
        async with Turns().turn() as turn:
            made = orjson.loads(orjson.dumps(await request(defaults or {}, asked, info, turn)))
        assert asked == before
        return made

    return asyncio.run(ask())


def text(*texts: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": text} for text in texts]


def test_nothing_is_sent_that_nobody_said() -> None:
    assert sent() == {"messages": [{"role": "user", "content": text("hi")}]}


# ---------------------------------------------------------------- messages


def test_system_messages_are_blocks_in_their_order_wherever_they_stand() -> None:
    later = {"role": "developer", "content": [{"type": "text", "text": "S2", "cache_control": CACHE}]}
    made = sent({"role": "system", "content": "S1"}, HI, later, HI)
    assert made["system"] == [*text("S1"), {"type": "text", "text": "S2", "cache_control": CACHE}]
    assert made["messages"] == [{"role": "user", "content": text("hi", "hi")}]


def test_they_stay_where_they_are_for_models_that_take_them_there() -> None:
    info = ModelInfo(**{**INFO, "multiple_system_messages": True})  # type: ignore[typeddict-item]
    made = sent({"role": "system", "content": "S1"}, HI, {"role": "system", "content": "S2"}, info=info)
    assert made["system"] == text("S1")
    assert [turn["role"] for turn in made["messages"]] == ["user", "system"]


def test_text_parts_stay_parts_with_what_they_hold() -> None:
    parts = [{"type": "text", "text": "a", "cache_control": CACHE}, {"type": "text", "text": "b"}]
    assert sent({"role": "user", "content": parts})["messages"][0]["content"] == parts


def test_a_messages_cache_control_is_its_last_blocks() -> None:
    made = sent({"role": "user", "content": [*text("a", "b")], "cache_control": CACHE})
    assert made["messages"][0]["content"] == [*text("a"), {"type": "text", "text": "b", "cache_control": CACHE}]


@pytest.mark.parametrize("content", ["", " \n", None, [], [{"type": "text", "text": ""}]])
def test_blank_text_is_left_out(content: Any) -> None:
    assert sent(HI, {"role": "assistant", "content": content}, HI)["messages"] == [
        {"role": "user", "content": text("hi", "hi")}
    ]


def test_the_text_to_continue_ends_without_white_space() -> None:
    assert sent(HI, {"role": "assistant", "content": "The answer is ( \n"})["messages"][1]["content"] == text(
        "The answer is ("
    )


@pytest.mark.parametrize(
    ("part", "block"),
    [
        (
            {"type": "image_url", "image_url": {"url": "https://x.example/a.png", "detail": "high"}},
            {"type": "image", "source": {"type": "url", "url": "https://x.example/a.png"}},
        ),
        (
            {"type": "image_url", "image_url": f"data:image/jpg;base64,{PNG}", "cache_control": CACHE},
            {
                "type": "image",
                "source": {"type": "base64", "media_type": "image/jpeg", "data": PNG},
                "cache_control": CACHE,
            },
        ),
        (
            {"type": "file", "file": {"file_data": f"data:application/pdf;base64,{PNG}", "filename": "a.pdf"}},
            {
                "type": "document",
                "source": {"type": "base64", "media_type": "application/pdf", "data": PNG},
                "title": "a.pdf",
            },
        ),
        (
            {"type": "file", "file": {"file_data": PNG}},
            {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": PNG}},
        ),
        (
            {"type": "file", "file": {"file_data": f"DATA:text/markdown;base64,{b64encode('é'.encode()).decode()}"}},
            {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "é"}},
        ),
        (
            {"type": "file", "file": {"file_id": "file_1"}},
            {"type": "document", "source": {"type": "file", "file_id": "file_1"}},
        ),
        (
            {"type": "search_result", "source": "s", "title": "t", "content": []},
            {"type": "search_result", "source": "s", "title": "t", "content": []},
        ),
    ],
    ids=str,
)
def test_parts_become_blocks(part: dict[str, Any], block: dict[str, Any]) -> None:
    assert sent({"role": "user", "content": [part]})["messages"][0]["content"] == [block]


def test_calls_and_results_keep_their_ids_and_results_are_one_turn() -> None:
    image = {"type": "image_url", "image_url": {"url": "https://x.example/a.png"}}
    made = sent(
        HI,
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [CALL, {**CALL, "id": "c2", "caller": {"type": "direct"}}],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "42"},
        {"role": "tool", "tool_call_id": "c2", "content": [*text("seen"), image], "is_error": True},
        {"role": "user", "content": "and?"},
        tools=[TOOL],
    )
    call = {"type": "tool_use", "id": "c1", "name": "f", "input": {"a": 1}}
    assert made["messages"][1]["content"] == [call, {**call, "id": "c2", "caller": {"type": "direct"}}]
    shown = [*text("seen"), {"type": "image", "source": {"type": "url", "url": "https://x.example/a.png"}}]
    assert made["messages"][2]["content"] == [
        {"type": "tool_result", "tool_use_id": "c1", "content": "42"},
        {"type": "tool_result", "tool_use_id": "c2", "content": shown, "is_error": True},
        *text("and?"),
    ]


@pytest.mark.parametrize("arguments", ["", None, {}, "{}"])
def test_a_call_without_arguments_has_an_empty_input(arguments: Any) -> None:
    call = {"id": "c", "function": {"name": "f", "arguments": arguments}}
    made = sent(HI, {"role": "assistant", "tool_calls": [call]})
    assert made["messages"][1]["content"][0]["input"] == {}


def test_arguments_are_sent_as_they_were_written() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"n": 12345678901234567890.50}'}}

    async def ask() -> bytes:
        async with Turns().turn() as turn:
            body = {"messages": [HI, {"role": "assistant", "tool_calls": [call]}]}
            return orjson.dumps(await request({}, body, INFO, turn))

    assert b'"input":{"n": 12345678901234567890.50}' in asyncio.run(ask())


def test_thinking_goes_back_first_with_its_signature_and_without_one_not_at_all() -> None:
    signed = {"type": "thinking", "thinking": "t", "signature": "s"}
    redacted = {"type": "redacted_thinking", "data": "d"}
    server = {"type": "server_tool_use", "id": "i", "name": "web_search", "input": {}}
    message = {
        "role": "assistant",
        "content": "Hello",
        "reasoning_content": "t",
        "refusal": None,
        "thinking_blocks": [signed, redacted, {"type": "thinking", "thinking": "of another model"}],
        "content_blocks": [server],
        "tool_calls": [CALL],
    }
    made = sent(HI, message)["messages"][1]["content"]
    call = {"type": "tool_use", "id": "c1", "name": "f", "input": {"a": 1}}
    assert made == [signed, redacted, server, *text("Hello"), call]


def test_a_refusal_was_said() -> None:
    assert sent(HI, {"role": "assistant", "content": None, "refusal": "No."}, HI)["messages"][1]["content"] == text(
        "No."
    )


def test_a_field_of_a_message_that_we_do_not_know_is_left_to_claude() -> None:
    assert sent({**HI, "of_next_year": 1, "nothing": None, "name": "Anna"})["messages"][0] == {
        "role": "user",
        "content": text("hi"),
        "of_next_year": 1,
    }


# ---------------------------------------------------------------- tools


def test_a_schema_keeps_all_it_has() -> None:
    tool = {**TOOL, "cache_control": CACHE}
    assert sent(tools=[tool])["tools"] == [
        {"name": "f", "description": "d", "input_schema": {"type": "object", **SCHEMA}, "cache_control": CACHE}
    ]


@pytest.mark.parametrize("parameters", [{}, {"parameters": None}, {"parameters": {}, "strict": False}])
def test_a_tool_without_parameters_takes_an_empty_object(parameters: dict[str, Any]) -> None:
    made = sent(tools=[{"type": "function", "function": {"name": "f", **parameters}}])
    assert made["tools"] == [{"name": "f", "input_schema": {"type": "object"}}]


def test_strict_and_tools_of_claudes_own_go_as_they_came() -> None:
    own = {"type": "web_search_20250305", "name": "web_search", "max_uses": 3}
    made = sent(tools=[{"type": "function", "function": {"name": "f", "strict": True}}, own])
    assert made["tools"] == [{"name": "f", "strict": True, "input_schema": {"type": "object"}}, own]


def test_a_conversation_with_calls_and_no_tools_gets_those_it_names_and_no_others() -> None:
    result = {"role": "tool", "tool_call_id": "c1", "content": "42"}
    made = sent(HI, {"role": "assistant", "tool_calls": [CALL]}, result)
    assert made["tools"] == [{"name": "f", "input_schema": {"type": "object"}}]
    assert made["tool_choice"] == {"type": "none"}


@pytest.mark.parametrize(
    ("asked", "made"),
    [
        ({"tool_choice": "auto"}, {"type": "auto"}),
        ({"tool_choice": "required"}, {"type": "any"}),
        ({"tool_choice": "none"}, {"type": "none"}),
        ({"tool_choice": "none", "parallel_tool_calls": False}, {"type": "none"}),
        ({"tool_choice": {"type": "function", "function": {"name": "f"}}}, {"type": "tool", "name": "f"}),
        ({"tool_choice": {"type": "any"}}, {"type": "any"}),
        ({"parallel_tool_calls": False}, {"type": "auto", "disable_parallel_tool_use": True}),
        ({"parallel_tool_calls": True}, None),
        ({}, None),
    ],
    ids=str,
)
def test_the_choice_of_tools(asked: dict[str, Any], made: Any) -> None:
    assert sent(tools=[TOOL], **asked).get("tool_choice") == made


@pytest.mark.parametrize("asked", [{"tool_choice": "auto"}, {"tool_choice": "none"}, {"parallel_tool_calls": False}])
def test_a_choice_among_no_tools_says_nothing(asked: dict[str, Any]) -> None:
    assert "tool_choice" not in sent(**asked, tools=[])


# ---------------------------------------------------------------- options


@pytest.mark.parametrize(
    ("asked", "made"),
    [
        ({"stop": "END"}, {"stop_sequences": ["END"]}),
        ({"stop": ["a", "b"]}, {"stop_sequences": ["a", "b"]}),
        ({"max_tokens": 5}, {"max_tokens": 5}),
        ({"max_tokens": 5, "max_completion_tokens": 6}, {"max_tokens": 6}),
        ({"temperature": 0, "top_p": 0.5, "top_k": 3}, {"temperature": 0, "top_p": 0.5, "top_k": 3}),
        ({"user": "u"}, {"metadata": {"user_id": "u"}}),
        ({"safety_identifier": "u", "metadata": {"a": "b"}}, {"metadata": {"a": "b", "user_id": "u"}}),
        ({"reasoning_effort": "minimal"}, {"output_config": {"effort": "low"}}),
        ({"reasoning_effort": "xhigh"}, {"output_config": {"effort": "xhigh"}}),
        ({"reasoning_effort": "none"}, {"thinking": {"type": "disabled"}}),
        (
            {"thinking": {"type": "enabled", "budget_tokens": 2048}},
            {"thinking": {"type": "enabled", "budget_tokens": 2048}},
        ),
        ({"service_tier": "default"}, {"service_tier": "standard_only"}),
        ({"service_tier": "auto"}, {"service_tier": "auto"}),
        ({"response_format": {"type": "text"}}, {}),
        (
            {
                "reasoning_effort": "low",
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "n", "strict": True, "schema": SCHEMA},
                },
            },
            {"output_config": {"effort": "low", "format": {"type": "json_schema", "schema": SCHEMA}}},
        ),
        ({"container": "c", "of_next_year": [1]}, {"container": "c", "of_next_year": [1]}),
        ({"n": 1, "logprobs": False, "presence_penalty": 0, "logit_bias": {}, "store": False, "seed": None}, {}),
        ({"stream_options": {"include_usage": True}}, {}),
    ],
    ids=str,
)
def test_options_have_claudes_words(asked: dict[str, Any], made: dict[str, Any]) -> None:
    assert sent(**asked) == {"messages": [{"role": "user", "content": text("hi")}], **made}


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ({"seed": 1}, "seed"),
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"frequency_penalty": 0.1}, "frequency_penalty"),
        ({"logit_bias": {"1": 2}}, "logit_bias"),
        ({"prediction": {"type": "content"}}, "prediction"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"store": True}, "store"),
        ({"verbosity": "low"}, "verbosity"),
        ({"prompt_cache_key": "k"}, "prompt_cache_key"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"user": "a", "safety_identifier": "b"}, "safety_identifier"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "n"}}},
            "response_format.json_schema.schema",
        ),
        ({"tools": [{"type": "custom", "custom": {"name": "f"}}]}, "tools[0]"),
        ({"tools": ["f"]}, "tools[0]"),
        ({"tools": [TOOL], "tool_choice": {"type": "allowed_tools", "allowed_tools": {}}}, "tool_choice"),
        ({"messages": [{"role": "function", "content": "a"}]}, "messages[0].role"),
        (
            {"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]},
            "messages[0].content[0]",
        ),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
        ({"messages": [{"role": "user", "content": [{"type": "file", "file": {}}]}]}, "messages[0].content[0].file"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "image_url", "image_url": {"url": "data:audio/mp3;base64,AA=="}}],
                    }
                ]
            },
            "audio/mp3",
        ),
        ({"messages": [HI, {"role": "tool", "content": "42"}]}, "messages[1].tool_call_id"),
        (
            {"messages": [HI, {"role": "assistant", "tool_calls": [{"id": "c", "type": "custom", "custom": {}}]}]},
            "messages[1].tool_calls[0]",
        ),
        *[
            (
                {
                    "messages": [
                        {"role": "assistant", "tool_calls": [{**CALL, "function": {"name": "f", "arguments": bad}}]}
                    ]
                },
                "messages[0].tool_calls[0].function.arguments",
            )
            for bad in ("{", "[1]", "7", '{"a": NaN}', "\ud800", "[" * 5000)
        ],
    ],
    ids=lambda value: str(value)[:80],
)
def test_what_claude_has_no_word_for_is_refused_by_name(asked: dict[str, Any], named: str) -> None:
    asked = dict(asked)
    with pytest.raises(Unsupported) as refused:
        sent(*asked.pop("messages", [HI]), **asked)
    assert named in str(refused.value)


def test_what_the_entry_says_a_model_cannot_do_is_refused() -> None:
    none = ModelInfo(**{**INFO, "vision": False, "function_calling": False})  # type: ignore[typeddict-item]
    image = {"type": "image_url", "image_url": {"url": "https://x.example/a.png"}}
    with pytest.raises(Unsupported, match="vision"):
        sent({"role": "user", "content": [image]}, info=none)
    with pytest.raises(Unsupported, match="function calling"):
        sent(tools=[TOOL], info=none)


# ---------------------------------------------------------------- the entry's own


def test_a_request_goes_before_its_entry_and_the_entrys_tools_stay() -> None:
    own = {"type": "web_search_20250305", "name": "web_search"}
    defaults = {
        "model": "m",
        "max_tokens": 9,
        "thinking": {"type": "adaptive"},
        "output_config": {"effort": "high"},
        "tools": [own],
        "tool_choice": {"type": "any"},
    }
    made = sent(defaults=defaults, max_tokens=5, tools=[TOOL], tool_choice="auto")
    assert (made["model"], made["max_tokens"], made["thinking"]) == ("m", 5, {"type": "adaptive"})
    assert made["output_config"] == {"effort": "high"}
    assert [tool["name"] for tool in made["tools"]] == ["web_search", "f"]
    assert made["tool_choice"] == {"type": "auto"}
    assert sent(defaults=defaults)["tool_choice"] == {"type": "any"}
