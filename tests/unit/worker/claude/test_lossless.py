"""Whatever is said in a conversation reaches Claude, but for what ``worker/claude/messages.py`` names."""

import json
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.worker.claude.asking import PNG, sent
from worker.contract.errors import Unsupported

WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
IDS = st.from_regex(r"[a-zA-Z0-9_-]{1,12}", fullmatch=True)
CACHE = st.just({"type": "ephemeral"})
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(WORDS, JSON, max_size=3)

TEXTS = st.fixed_dictionaries({"type": st.just("text"), "text": WORDS}, optional={"cache_control": CACHE})
URLS = st.sampled_from([f"data:image/png;base64,{PNG}", "https://x.example/a.png"])
IMAGES = st.builds(lambda url: {"type": "image_url", "image_url": {"url": url, "detail": "auto"}}, URLS)
FILES = st.builds(lambda data: {"type": "file", "file": data}, st.sampled_from([{"file_id": "f"}, {"file_data": PNG}]))
OWN = st.builds(lambda more: {**more, "type": "search_result"}, OBJECTS)
PARTS = st.one_of(TEXTS, IMAGES, FILES, OWN)
CONTENT = st.none() | WORDS | st.lists(TEXTS, max_size=3)

CALLS = st.builds(
    lambda id_, name, arguments: {
        "id": id_,
        "type": "function",
        "function": {"name": name, "arguments": json.dumps(arguments)},
    },
    IDS,
    WORDS,
    OBJECTS,
)
THINKING = st.fixed_dictionaries({"type": st.just("thinking"), "thinking": WORDS, "signature": WORDS})
MESSAGES = st.one_of(
    st.fixed_dictionaries({"role": st.sampled_from(["system", "developer"]), "content": CONTENT}),
    st.fixed_dictionaries({"role": st.just("user"), "content": WORDS | st.lists(PARTS, max_size=4)}),
    st.fixed_dictionaries(
        {"role": st.just("assistant")},
        optional={
            "content": CONTENT,
            "tool_calls": st.lists(CALLS, max_size=3),
            "thinking_blocks": st.lists(THINKING, max_size=2),
            "content_blocks": st.lists(OWN, max_size=2),
            "refusal": st.none() | WORDS,
        },
    ),
    st.fixed_dictionaries(
        {"role": st.just("tool"), "tool_call_id": IDS, "content": WORDS | st.lists(TEXTS, max_size=2)},
        optional={"is_error": st.booleans()},
    ),
)
TOOLS = st.builds(
    lambda name, schema: {"type": "function", "function": {"name": name, "description": "d", "parameters": schema}},
    WORDS,
    OBJECTS.map(lambda more: {**more, "type": "object"}),
)


FIELDS = ("content", "tool_calls", "thinking_blocks", "content_blocks", "tool_call_id", "refusal", "cache_control")
OPTIONS = (
    "tools",
    "tool_choice",
    "stop",
    "user",
    "metadata",
    "output_config",
    "response_format",
    "system",
    "reasoning_effort",
)


def said(message: dict[str, Any]) -> list[Any]:
    """What Claude must get of a message, as comparable values in order."""
    content = message.get("content")
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content or []
    own = [*message.get("thinking_blocks", []), *message.get("content_blocks", [])]
    refusal = message.get("refusal")
    found: list[Any] = [*own, *[part for part in map(_part, parts) if part is not None]]
    if refusal and refusal.strip():
        found.append({"type": "text", "text": refusal})
    for call in message.get("tool_calls", []):
        function = call["function"]
        found.append((call["id"], function["name"], json.loads(function["arguments"])))
    if message["role"] == "tool":
        inner = content if isinstance(content, str) else [part for part in map(_part, parts) if part is not None]
        return [("result", message["tool_call_id"], inner or None, message.get("is_error"))]
    return found


def _part(part: dict[str, Any]) -> Any:
    match part:
        case {"type": "text", "text": text}:
            return part if text.strip() else None
        case {"type": "image_url", "image_url": {"url": url}}:
            return ("image", url.rpartition(",")[2])
        case {"type": "file", "file": data}:
            return ("document", *data.values())
    return part


def got(block: dict[str, Any]) -> Any:
    match block:
        case {"type": "image", "source": {"data": data}}:
            return ("image", data)
        case {"type": "image", "source": {"url": url}}:
            return ("image", url)
        case {"type": "document", "source": {"file_id": name}}:
            return ("document", name)
        case {"type": "document", "source": {"data": data}}:
            return ("document", data)
        case {"type": "tool_use"}:
            return (block["id"], block["name"], block["input"])
        case {"type": "tool_result"}:
            return ("result", block["tool_use_id"], block.get("content"), block.get("is_error"))
    return block


@settings(max_examples=500)
@given(st.lists(MESSAGES, min_size=1, max_size=6), st.lists(TOOLS, max_size=3))
def test_all_that_is_said_arrives_in_its_order(messages: list[dict[str, Any]], tools: list[dict[str, Any]]) -> None:
    made = sent(*messages, tools=tools)
    spoken = [message for message in messages if message["role"] not in ("system", "developer")]
    turns = [(turn["role"], got(block)) for turn in made["messages"] for block in turn["content"]]
    expected = [
        ("assistant" if message["role"] == "assistant" else "user", one) for message in spoken for one in said(message)
    ]
    assert _stripped(turns) == _stripped(expected)
    system = [one for message in messages if message["role"] in ("system", "developer") for one in said(message)]
    assert made.get("system", []) == system
    roles = [turn["role"] for turn in made["messages"]]
    assert all(one != other for one, other in pairwise(roles))
    if tools:
        assert [(tool["name"], tool["description"], tool["input_schema"]) for tool in made["tools"]] == [
            tuple(tool["function"].values()) for tool in tools
        ]
    else:
        called = [one[1] for _, one in turns if isinstance(one, tuple) and len(one) == 3]
        assert [tool["name"] for tool in made.get("tools", [])] == list(dict.fromkeys(called))


def _stripped(turns: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """The last word of an assistant, which Claude continues, has no white space at its end."""
    if turns and turns[-1][0] == "assistant" and isinstance(turns[-1][1], dict) and turns[-1][1]["type"] == "text":
        last = turns[-1][1]
        return [*turns[:-1], ("assistant", {**last, "text": last["text"].rstrip()})]
    return turns


@settings(max_examples=500)
@given(st.lists(MESSAGES | st.builds(lambda more: {"role": "user", **more}, OBJECTS), min_size=1, max_size=3), JSON)
def test_a_body_of_any_kind_is_translated_or_refused_by_name(messages: list[dict[str, Any]], odd: Any) -> None:
    asked: list[tuple[list[dict[str, Any]], dict[str, Any]]] = [
        ([{**message, field: odd} for message in messages], {}) for field in FIELDS
    ]
    for given_messages, options in [*asked, *((messages, {field: odd}) for field in OPTIONS)]:
        assert is_named(given_messages, options)


def is_named(messages: list[dict[str, Any]], options: dict[str, Any]) -> bool:
    """Whether a request is translated, or its refusal begins with the name of a field."""
    try:
        sent(*messages, **options)
    except Unsupported as refused:
        return str(refused).partition(":")[0].startswith(("messages[", *FIELDS, *OPTIONS))
    return True
