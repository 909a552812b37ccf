"""Any JSON in any place of a model's stream: it is understood, or it is the model's fault. Never ours."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.lane import payload_bytes
from protos import chat_pb2 as pb
from tests.unit.worker.recording import Recording
from worker.contract import failures
from worker.contract.errors import ModelReported, StreamBroken
from worker.contract.tool_call import ID_LIMIT, NAME_LIMIT
from worker.openai.calls import CALLS_LIMIT
from worker.openai.chunk import VALUES_LIMIT
from worker.openai.completion import Completion

ODD_NUMBERS = st.sampled_from(
    [
        0,
        1,
        -1,
        -0.0,
        0.5,
        2**31,
        2**32 - 1,
        2**32,
        2**40,
        2**63,
        2**64,
        10**300,
        -(2**70),
        1e308,
        *map(float, ("nan", "inf", "-inf")),
    ]
)
TEXTS = st.text(max_size=5) | st.sampled_from(["", "\x00", "\ud83d", "\ude00", "a\udfff", "stop", "0", "\x1b[31m"])
SCALARS = st.none() | st.booleans() | ODD_NUMBERS | TEXTS
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3), max_leaves=6
)


def odd(value: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """What is expected, or anything at all."""
    return value | VALUES


FUNCTION = st.fixed_dictionaries({}, optional={"name": odd(TEXTS), "arguments": odd(TEXTS)})
CALL = st.fixed_dictionaries(
    {}, optional={"index": odd(st.integers(0, 3)), "id": odd(TEXTS), "function": odd(FUNCTION)}
)
DELTA = st.fixed_dictionaries(
    {},
    optional={
        "content": odd(TEXTS),
        "refusal": odd(TEXTS),
        "reasoning_content": odd(TEXTS),
        "tool_calls": odd(st.lists(odd(CALL), max_size=3)),
    },
)
TOKEN = st.fixed_dictionaries({"token": odd(TEXTS), "logprob": odd(ODD_NUMBERS)}, optional={"top_logprobs": VALUES})
CHOICE = st.fixed_dictionaries(
    {},
    optional={
        "delta": odd(DELTA),
        "finish_reason": odd(TEXTS),
        "logprobs": odd(st.fixed_dictionaries({"content": odd(st.lists(odd(TOKEN), max_size=3))})),
    },
)
USAGE = st.fixed_dictionaries({}, optional={"prompt_tokens": odd(ODD_NUMBERS), "completion_tokens": odd(ODD_NUMBERS)})
CHUNK = st.fixed_dictionaries(
    {},
    optional={"choices": odd(st.lists(odd(CHOICE), max_size=2)), "usage": odd(USAGE), "error": VALUES},
)


def stream(*payloads: bytes) -> tuple[Recording, Completion]:
    """What is written for a stream of these chunks."""
    recording = Recording()
    completion = Completion(recording)
    for payload in payloads:
        completion.data_received(b"data: " + payload + b"\n\n")
    completion.eof_received()
    return recording, completion


async def ended(*payloads: bytes) -> pb.Error | pb.Done:
    """How a stream of these chunks ends. All of it can be sent, and read by a gateway."""
    recording, completion = stream(*payloads)
    for kind, value in recording.events:
        if kind == "logprobs":
            tokens = orjson.loads(str(value))
            assert all(isinstance(token, dict) for token in tokens)
            orjson.dumps({"choices": [{"logprobs": {"content": tokens}}]})
    try:
        return await completion.end()
    except (StreamBroken, ModelReported) as error:
        made = failures.failure(error, True)
        made.SerializeToString()
        return made


@settings(max_examples=150)
@given(st.lists(odd(CHUNK), min_size=1, max_size=3), st.booleans())
async def test_any_json_is_understood_or_the_models_fault(chunks: list[Any], ascii_: bool) -> None:
    payloads = [json.dumps(chunk, ensure_ascii=ascii_).encode("utf-8", "surrogatepass") for chunk in chunks]
    end = await ended(*payloads)
    assert isinstance(end, pb.Done) or end.code in ("model_stream_broken", "model_failed")


@settings(max_examples=100)
@given(st.binary(max_size=60))
async def test_any_bytes_are_the_models_fault(payload: bytes) -> None:
    end = await ended(payload)
    assert isinstance(end, pb.Error)
    assert end.code in ("model_stream_broken", "model_failed")


def choice(**fields: object) -> bytes:
    return json.dumps({"choices": [fields]}).encode()


def call(**fields: object) -> bytes:
    return choice(delta={"tool_calls": [fields]})


@pytest.mark.parametrize(
    "payload",
    [
        b'{"choices": [], "usage": {"prompt_tokens": %b}}' % (b"9" * 5000),
        b'{"choices": "abc"}',
        call(index="x"),
        call(index=True),
        call(index=0.5),
        call(index=0, function="f"),
        choice(delta="text"),
        choice(finish_reason=5),
        choice(logprobs={"content": "abc"}),
        b"[" * 200_000,
        b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        choice(logprobs={"content": [{"top_logprobs": json.loads("[" * 900 + "]" * 900)}]}),
        b'{"x": [' + b"1," * VALUES_LIMIT + b"1]}",
        call(index=0, id="i" * (ID_LIMIT + 1)),
        call(index=0, function={"name": "n" * (NAME_LIMIT + 1)}),
        choice(delta={"tool_calls": [{"index": 0}] * (CALLS_LIMIT + 1)}),
    ],
)
async def test_nonsense_is_a_broken_stream(payload: bytes) -> None:
    end = await ended(choice(delta={"content": "a"}), payload)
    assert isinstance(end, pb.Error)
    assert (end.code, end.retryable) == ("model_stream_broken", True)
    assert end.message.startswith("the model's stream holds something else than chunks")


@pytest.mark.parametrize(
    "usage", ["none", [1], {"prompt_tokens": "many"}, {"prompt_tokens": {}}, {"prompt_tokens": "1e999"}]
)
async def test_no_reply_fails_for_its_usage(usage: object) -> None:
    end = await ended(
        choice(delta={"content": "a"}), choice(finish_reason="stop"), json.dumps({"usage": usage}).encode()
    )
    assert isinstance(end, pb.Done)
    assert end.usage.prompt_tokens == 0


async def test_counts_of_tokens_are_kept_within_what_they_can_be() -> None:
    usage = b'{"choices": [{"finish_reason": "stop"}], "usage": {"prompt_tokens": -5, "completion_tokens": 1e300}}'
    end = await ended(usage)
    assert isinstance(end, pb.Done)
    assert (end.usage.prompt_tokens, end.usage.completion_tokens) == (0, 2**53)


def test_half_a_character_in_log_probabilities_is_replaced() -> None:
    payload = b'{"choices": [{"logprobs": {"content": [{"token": "\\ud83d", "logprob": -1}]}}]}'
    ((_, written),) = stream(payload)[0].events
    assert json.loads(str(written)) == [{"token": "\ufffd", "logprob": -1}]


def test_many_log_probabilities_are_written_in_parts() -> None:
    content = [{"token": f"{number}", "logprob": -1.5, "bytes": [1] * 50} for number in range(1000)]
    parts = [str(part) for _, part in stream(choice(logprobs={"content": content}))[0].events]
    assert len(parts) > 5
    assert [token for part in parts for token in json.loads(part)] == content
    assert max(map(len, parts)) <= 17 * 1024


async def test_an_id_may_not_grow_either() -> None:
    end = await ended(*[call(index=0, id="i" * 4096 * number) for number in range(1, 6)])
    assert isinstance(end, pb.Error)
    assert "16,384 characters" in end.message


async def test_an_id_that_is_repeated_does_not_grow() -> None:
    part = call(index=0, id="i" * 1000, function={"name": "n" * 100, "arguments": "1"})
    assert isinstance(await ended(*[part] * 50, choice(finish_reason="tool_calls")), pb.Done)


def test_the_largest_label_is_no_event_that_the_lane_refuses() -> None:
    part = call(index=0, id="\u20ac" * ID_LIMIT, function={"name": "\u20ac" * NAME_LIMIT, "arguments": ""})
    ((kind, written),) = stream(part)[0].events
    assert kind == "tool_call"
    assert payload_bytes(pb.ReplyEvent(tool_call=written)) < 64 * 1024  # type: ignore[arg-type]


async def test_a_reply_has_a_bounded_number_of_tool_calls() -> None:
    calls = [call(index=index, id=f"{index}") for index in range(CALLS_LIMIT)]
    again = [call(index=0), call(index=0, function={"arguments": "{"})]  # the first of them says nothing
    recording, _ = stream(*calls, *again)
    assert len(recording.events) == CALLS_LIMIT + 1
    end = await ended(*calls, call(index=CALLS_LIMIT, id="x"))
    assert isinstance(end, pb.Error)
    assert "more than 1,024 tool calls" in end.message
