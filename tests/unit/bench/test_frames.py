"""The backend's events: what surrounds a token is what model servers send."""

from typing import Any, get_args

import orjson
import pytest

from bench.frames import LONGEST, PADDINGS, Frames
from bench.order import CLOSING, OPENING, TOKEN, Kind, Order
from bench.order import Frames as Form

COUNT = 20


def events(kind: Kind, form: Form, wants_usage: bool = True) -> list[dict[str, Any]]:
    """All events of a reply but ``[DONE]``."""
    frames = Frames(Order("a", COUNT, kind=kind, frames=form), wants_usage)
    tokens = [frames.token(place, 1000 * place) for place in range(COUNT)]
    *found, done = [*frames.opening(), *tokens, *frames.ending()]
    assert done == b"data: [DONE]\n\n"
    assert all(event.startswith(b"data: {") and event.endswith(b"}\n\n") for event in found)
    return [orjson.loads(event.removeprefix(b"data: ")) for event in found]


def text_of(kind: Kind, event: dict[str, Any]) -> str:
    """The text of that kind in an event."""
    delta = event["choices"][0]["delta"] if event["choices"] else {}
    if kind == "tools":
        return "".join(part["function"]["arguments"] for part in delta.get("tool_calls", ()))
    return delta.get({"text": "content", "reasoning": "reasoning_content"}[kind]) or ""


@pytest.mark.parametrize("form", get_args(Form))
@pytest.mark.parametrize("kind", get_args(Kind))
def test_all_tokens_are_in_the_field_of_their_kind(kind: Kind, form: Form) -> None:
    text = "".join(text_of(kind, event) for event in events(kind, form))
    tokens = "".join((TOKEN % (b"a", place, 1000 * place)).decode() for place in range(COUNT))
    assert text == (OPENING + tokens + CLOSING if kind == "tools" else tokens)


@pytest.mark.parametrize("kind", get_args(Kind))
def test_every_changing_event_is_padded_in_its_own_way(kind: Kind) -> None:
    found = events(kind, "changing")
    paddings = [event["obfuscation"] for event in found]
    assert all(paddings[number] != paddings[number + 1] for number in range(len(paddings) - 1))
    assert len({len(padding) for padding in paddings}) > 4
    assert all(padding.isascii() and 1 <= len(padding) <= LONGEST for padding in paddings)
    assert all(event["service_tier"] == "default" and event["system_fingerprint"] for event in found)


def test_replies_are_padded_from_different_places() -> None:
    first, second = (events("text", "changing")[0]["obfuscation"] for _ in range(2))
    assert first != second
    assert PADDINGS > 1000


def test_a_changing_event_is_as_long_as_openais() -> None:
    frames = Frames(Order("a", 1), wants_usage=True)
    assert 280 < sum(len(frames.token(place, 10**10)) for place in range(100)) / 100 < 340


def test_usage_is_null_but_in_the_last_event() -> None:
    *before, last = events("text", "changing")
    assert all(event["usage"] is None for event in before)
    assert (last["choices"], last["usage"]["completion_tokens"]) == ([], COUNT)


def test_usage_is_sent_only_if_it_was_asked_for() -> None:
    assert not any(event.get("usage") for event in events("text", "changing", wants_usage=False))
    *_, last = events("text", "constant")
    assert last["usage"]["total_tokens"] == COUNT + 1


def test_constant_events_differ_in_their_token_only() -> None:
    frames = Frames(Order("a", 2, frames="constant"), wants_usage=False)
    token = TOKEN % (b"a", 0, 0)
    assert frames.token(1, 7).replace(TOKEN % (b"a", 1, 7), token) == frames.token(0, 0)


def test_a_tool_call_begins_with_its_id_and_name() -> None:
    (first, *parts) = [
        event for event in events("tools", "changing") if text_of("tools", event) or "role" in str(event)
    ]
    (call,) = first["choices"][0]["delta"]["tool_calls"]
    assert (call["id"], call["function"]) == ("call_a", {"name": "note", "arguments": ""})
    assert all(set(part["choices"][0]["delta"]["tool_calls"][0]) == {"index", "function"} for part in parts)


@pytest.mark.parametrize(("kind", "reason"), [("text", "stop"), ("reasoning", "stop"), ("tools", "tool_calls")])
def test_a_reply_ends_for_the_reason_of_its_kind(kind: Kind, reason: str) -> None:
    found = [event["choices"][0]["finish_reason"] for event in events(kind, "changing") if event["choices"]]
    assert (set(found[:-1]), found[-1]) == ({None}, reason)
