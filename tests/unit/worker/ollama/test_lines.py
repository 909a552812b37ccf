"""Ollama's lines, read as a completion."""

import json
import random
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.worker.recording import Recording
from worker.contract.errors import ModelReported, StreamBroken
from worker.ollama.lines import LineDecoder
from worker.openai.completion import Completion

DONE = {
    "done": True,
    "done_reason": "stop",
    "total_duration": 4,
    "load_duration": 1,
    "prompt_eval_count": 10,
    "prompt_eval_duration": 2,
    "eval_count": 7,
    "eval_duration": 1,
}


NAMES = st.sampled_from(
    [
        *("message", "content", "thinking", "tool_calls", "function", "name", "arguments", "id", "index", "role"),
        *("done", "done_reason", "eval_count", "eval_duration", "logprobs", "error", "status", "choices", "usage", "x"),
    ]
)


def line(said: Any = None, **message: Any) -> bytes:
    """One line: a message, unless ``said`` is given."""
    whole = {
        "model": "m",
        "created_at": "2026-01-01T00:00:00Z",
        "message": {"role": "assistant", "content": "", **message},
    }
    return json.dumps(whole | {"done": False} | (said or {})).encode() + b"\n"


def call(name: str, arguments: Any, **more: Any) -> dict[str, Any]:
    return {"function": {"name": name, "arguments": arguments}, **more}


async def read(*pieces: bytes) -> Recording:
    recording = Recording()
    completion = Completion(recording, events=LineDecoder())
    for piece in pieces:
        completion.data_received(piece)
    completion.eof_received()
    await recording.of(completion.end())
    return recording


async def broken(*pieces: bytes) -> Any:
    """The kind of the error that ends the reply, and its text."""
    return (await read(*pieces)).end


def calls(recording: Recording) -> list[tuple[int, str, str, str]]:
    found: list[Any] = [event for kind, event in recording.events if kind == "tool_call"]
    return [(part.index, part.id, part.name, part.arguments) for part in found]


async def test_text_and_thinking_arrive_apart_and_usage_at_the_end() -> None:
    reply = await read(line(thinking="hm"), line(content="Hel"), line(content="lo"), line(DONE))
    assert reply.events == [("reasoning", "hm"), ("text", "Hello")]
    end: Any = reply.end
    assert end.finish_reason == "stop"
    assert (end.usage.prompt_tokens, end.usage.completion_tokens) == (10, 7)


@pytest.mark.parametrize(
    ("done", "reason"), [({}, "stop"), ({"done_reason": "length"}, "length"), ({"done_reason": None}, "stop")]
)
async def test_ends_have_openais_words(done: dict[str, Any], reason: str) -> None:
    end: Any = (await read(line(content="a"), line(DONE | done))).end
    assert end.finish_reason == reason


@pytest.mark.parametrize("apart", [True, False])
async def test_calls_of_one_reply_have_ids_and_indexes_of_their_own(apart: bool) -> None:
    two = [call("get", {"a": 1}), call("get", {"a": 2})]
    lines = [line(tool_calls=[one]) for one in two] if apart else [line(tool_calls=two)]
    reply = await read(*lines, line(DONE))
    (one, two_) = calls(reply)
    assert one[0] == 0
    assert two_[0] == 1
    assert one[1]
    assert two_[1]
    assert one[1] != two_[1]
    assert [part[2:] for part in (one, two_)] == [("get", '{"a":1}'), ("get", '{"a":2}')]
    end: Any = reply.end
    assert end.finish_reason == "function_calls"


async def test_a_byte_order_mark_is_no_part_of_a_line() -> None:
    reply = await read(b"\xef\xbb\xbf" + line(content="a"), line(DONE))
    assert reply.events == [("text", "a")]


async def test_ids_of_the_server_stay_unless_they_are_taken() -> None:
    reply = await read(
        line(tool_calls=[call(name, {"n": 1}, id=id_) for name, id_ in zip("abc", ("x", "x", ""), strict=True)]),
        line(DONE),
    )
    ids = [id_ for _, id_, _, _ in calls(reply)]
    assert ids[0] == "x"
    assert len(set(ids)) == 3
    assert all(ids)


async def test_a_reply_that_was_cut_by_its_limit_is_told_so_even_with_calls() -> None:
    end: Any = (await read(line(tool_calls=[call("a", {})]), line(DONE | {"done_reason": "length"}))).end
    assert end.finish_reason == "length"


async def test_a_stream_without_its_end_is_broken() -> None:
    assert (await read(line(content="Half a"))).end == (
        StreamBroken,
        "the model's stream ended without a finish reason",
    )


async def test_what_was_said_before_an_error_is_written() -> None:
    recording = Recording()
    completion = Completion(recording, events=LineDecoder())
    completion.data_received(line(content="Half a") + b'{"error": "out of memory", "status": 503}\n')
    with pytest.raises(ModelReported) as reported:
        await completion.end()
    assert reported.value.body == {"error": "out of memory", "status": 503}
    assert recording.events == [("text", "Half a")]


@pytest.mark.parametrize("reason", ["load", "unload"])
async def test_a_reply_that_only_loaded_the_model_is_no_answer(reason: str) -> None:
    kind, text = await broken(line(DONE | {"done_reason": reason}))
    assert kind is StreamBroken
    assert reason in text


@pytest.mark.parametrize(
    "bad",
    [
        b"<html>\n",
        b"5\n",
        b"[1]\n",
        b'{"message": 5}\n',
        b'{"message": {"tool_calls": 5}}\n',
        b'{"message": {"tool_calls": [5]}}\n',
        b'{"message": {"tool_calls": [{"function": 5}]}}\n',
        b'{"logprobs": [5]}\n',
        b'{"message": {"content": "a"' + b"[" * 5000 + b"\n",
        b'{"message": {"a": ' + b"[" * 500 + b"]" * 500 + b"}}\n",
        b'{"a": [' + b"1," * 300_000 + b"1]}\n",
    ],
    ids=lambda bad: bad[:40].decode(),
)
async def test_other_things_than_lines_break_the_stream(bad: bytes) -> None:
    kind, _ = await broken(line(content="a"), bad)
    assert kind is StreamBroken


async def test_a_line_cannot_end_a_reply_in_other_words() -> None:
    odd = {"usage": {"prompt_tokens": 1}, "choices": [{"finish_reason": "stop"}]}
    kind, _ = await broken(line(odd, content="Half a"))
    assert kind is StreamBroken


async def test_a_line_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.ollama.lines.EVENT_LIMIT", 100_000)
    kind, text = await broken(*[b"a" * 1000] * 101)
    assert kind is StreamBroken
    assert "100,000" in text


async def test_logprobs_have_what_clients_of_openai_need() -> None:
    reply = await read(line({"logprobs": [{"token": "a", "logprob": -0.5}]}, content="a"), line(DONE))
    (text,) = [event for kind, event in reply.events if kind == "logprobs"]
    assert json.loads(str(text)) == [{"bytes": None, "top_logprobs": [], "token": "a", "logprob": -0.5}]


async def test_a_stream_means_the_same_however_it_is_cut() -> None:
    body = line(thinking="hm") + b"\r\n\n" + line(content="漢字") + line(tool_calls=[call("a", {"é": 1}, id="i")])
    body += line(DONE).rstrip() + b"\r\n" + b"what comes after the end is not read"
    whole = await read(body)
    assert calls(whole) == [(0, "i", "a", '{"é":1}')]
    chance = random.Random(5)
    for _ in range(50):
        cuts = sorted(chance.sample(range(len(body)), 9))
        assert await read(*[body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True)]) == whole


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=20,
)


@given(st.lists(st.dictionaries(NAMES, JSON, max_size=5), max_size=4), st.binary(max_size=20), st.integers(1, 50))
async def test_whatever_a_server_sends_ends_a_reply_once(bodies: list[Any], rest: bytes, size: int) -> None:
    body = b"".join(json.dumps(one).encode() + b"\n" for one in bodies) + rest
    recording = Recording()
    completion = Completion(recording, events=LineDecoder())
    for start in range(0, len(body), size):
        completion.data_received(body[start : start + size])
    completion.eof_received()
    assert completion.is_over
    with suppress(StreamBroken, ModelReported):
        await completion.end()


async def test_a_last_line_may_lack_its_end() -> None:
    assert (await read(line(content="a"), line(DONE).rstrip())) == (await read(line(content="a"), line(DONE)))
