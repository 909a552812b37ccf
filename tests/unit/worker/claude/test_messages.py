"""A conversation in OpenAI's terms as Claude's turns."""

import asyncio
import re
from base64 import b64encode
from typing import Any

import orjson
import pytest

from fleet.process.turns import Turns
from tests.unit.worker.claude.asking import CACHE, CALL, HI, PNG, TOOL, sent, text
from worker.claude.request import request


def test_system_messages_are_blocks_in_their_order_wherever_they_stand() -> None:
    later = {"role": "developer", "content": [{"type": "text", "text": "S2", "cache_control": CACHE}]}
    made = sent({"role": "system", "content": "S1"}, HI, later, HI)
    assert made["system"] == [*text("S1"), {"type": "text", "text": "S2", "cache_control": CACHE}]
    assert made["messages"] == [{"role": "user", "content": text("hi", "hi")}]


def test_they_stay_where_they_are_for_models_that_take_them_there() -> None:
    made = sent({"role": "system", "content": "S1"}, HI, {"role": "system", "content": "S2"}, in_place=True)
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
            {"type": "image_url", "image_url": f"data:image/webp;base64,{PNG[:5]}\r\n{PNG[5:]}"},
            {"type": "image", "source": {"type": "base64", "media_type": "image/webp", "data": PNG}},
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


def test_ids_that_claude_refuses_become_others_and_stay_apart() -> None:
    ids = ["functions.f:0", "functions.f:1", "c1"]
    results = [{"role": "tool", "tool_call_id": id_, "content": "42"} for id_ in ids]
    made = sent(HI, {"role": "assistant", "tool_calls": [{**CALL, "id": id_} for id_ in ids]}, *results, tools=[TOOL])
    sent_ids = [block["id"] for block in made["messages"][1]["content"]]
    assert len(set(sent_ids)) == 3
    assert sent_ids[2] == "c1"
    assert all(re.fullmatch("[a-zA-Z0-9_-]+", id_) for id_ in sent_ids)
    assert [block["tool_use_id"] for block in made["messages"][2]["content"]] == sent_ids


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
            return orjson.dumps(await request({}, body, turn, in_place=False))

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
