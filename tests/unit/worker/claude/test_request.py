"""A chat completion's body as a request of the Messages API: nothing is lost, or it is refused by name."""

from typing import Any

import pytest

from tests.unit.worker.claude.asking import CACHE, CALL, HI, SCHEMA, THINKING, TOOL, called, part, sent, text
from worker.contract.errors import Unsupported


def test_nothing_is_sent_that_nobody_said() -> None:
    assert sent() == {"messages": [{"role": "user", "content": text("hi")}]}


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
        ({"max_tokens": 5, "max_completion_tokens": 0}, {"max_tokens": 0}),
        ({"max_tokens": 5, "max_completion_tokens": None}, {"max_tokens": 5}),
        ({"temperature": 0, "top_p": 0.5, "top_k": 3}, {"temperature": 0, "top_p": 0.5, "top_k": 3}),
        ({"user": "u"}, {"metadata": {"user_id": "u"}}),
        ({"safety_identifier": "u", "metadata": {"a": "b"}}, {"metadata": {"a": "b", "user_id": "u"}}),
        ({"reasoning_effort": "minimal"}, {"output_config": {"effort": "low"}}),
        ({"reasoning_effort": "xhigh"}, {"output_config": {"effort": "xhigh"}}),
        ({"reasoning_effort": "none"}, {"thinking": {"type": "disabled"}}),
        ({"thinking": THINKING}, {"thinking": THINKING}),
        ({"service_tier": "default"}, {"service_tier": "standard_only"}),
        ({"service_tier": "auto"}, {"service_tier": "auto"}),
        ({"response_format": {"type": "text"}}, {}),
        (
            {
                "reasoning_effort": "low",
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "n", "schema": SCHEMA},
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
            "json_schema.schema",
        ),
        ({"tools": [{"type": "custom", "custom": {"name": "f"}}]}, "tools[0]"),
        ({"tools": ["f"]}, "tools[0]"),
        ({"tools": [TOOL], "tool_choice": {"type": "allowed_tools", "allowed_tools": {}}}, "tool_choice"),
        ({"messages": [{"role": "function", "content": "a"}]}, "messages[0].role"),
        ({"messages": [part(type="input_audio", input_audio={})]}, "messages[0].content[0]"),
        ({"messages": [part(type="text")]}, "messages[0].content[0].text"),
        ({"messages": [part(type="file", file={})]}, "messages[0].content[0].file"),
        ({"messages": [part(type="image_url", image_url="data:audio/mp3;base64,AA==")]}, "audio/mp3"),
        ({"messages": [part(type="image_url", image_url="data:image/bmp;base64,AA==")]}, "image/bmp"),
        ({"messages": [part(type="image_url", image_url="data:image/png;base64,")]}, "content[0].image_url"),
        ({"messages": [part(type="image_url", image_url="data:image/png;base64,A=A=")]}, "not valid base64"),
        ({"messages": [part(type="image_url", image_url="data:image/png;base64,AAé=")]}, "not valid base64"),
        ({"messages": [part(type="file", file={"file_data": "!!!"})]}, "not valid base64"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"messages": [HI, {"role": "tool", "content": "42"}]}, "messages[1].tool_call_id"),
        (
            {"messages": [HI, {"role": "assistant", "tool_calls": [{"id": "c", "type": "custom", "custom": {}}]}]},
            "messages[1].tool_calls[0]",
        ),
        *[
            ({"messages": [called(bad)]}, "messages[0].tool_calls[0].function.arguments")
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
