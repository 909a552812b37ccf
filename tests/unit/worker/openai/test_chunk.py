"""A chunk is decoded at bounded cost, and what is not read of it does no harm."""

import json

import pytest

from worker.openai.chunk import FEW, LOGPROBS_LIMIT, LOGPROBS_SLICE, VALUES_LIMIT, NoChunk, decode, logprobs_slices


def test_what_is_ours_is_skipped() -> None:
    chunk = decode(
        b'{"id": "c", "obfuscation": "x", "choices": [{"index": 0, "delta": {"content": "a", "role": null}}]}'
    )
    assert chunk is not None
    assert chunk.choices is not None
    assert chunk.choices[0].delta is not None
    assert chunk.choices[0].delta.content == "a"
    assert (chunk.usage, chunk.error, chunk.choices[0].finish_reason) == (None, None, None)


@pytest.mark.parametrize(
    "payload",
    [
        b"[]",
        b'"a"',
        b"[DONE]",
        b'{"choices": 5}',
        b'{"choices": 5, "x": NaN}',
        b'{"choices": [{"delta": {"content": "\\ud83d"}}], "x": NaN}',
        b'{"x": Infinity}',
        b'{"choices": [{"index": 1}]}',
        b'{"choices": [{"delta": {"refusal": "no"}}]}',
        b'{"choices": [{"delta": {"annotations": [{}]}}]}',
        b'{"choices": [{"delta": {"tool_calls": [{"extra_content": {}}]}}]}',
        b'{"choices": [{"error": {}}]}',
    ],
)
def test_any_other_shape_is_read_elsewhere(payload: bytes) -> None:
    assert decode(payload) is None


def test_an_event_of_too_many_values_is_not_decoded() -> None:
    with pytest.raises(NoChunk, match="200,000 JSON values"):
        decode(b'{"x": [' + b"1," * VALUES_LIMIT + b"1]}")
    chunk = decode(b'{"id": "' + b"a" * 2 * FEW + b'"}')
    assert chunk is not None
    assert chunk.choices is None


def test_no_log_probabilities_are_no_event() -> None:
    assert list(logprobs_slices([])) == []


def test_log_probabilities_are_cut_between_tokens() -> None:
    tokens = [{"token": "a" * 1000, "logprob": -1.0} for _ in range(40)]
    slices = list(logprobs_slices(tokens))
    assert [token for part in slices for token in json.loads(part)] == tokens
    assert len(slices) > 1
    assert max(map(len, slices)) <= LOGPROBS_SLICE + len(slices) + 1100


def test_one_token_has_bounded_log_probabilities() -> None:
    with pytest.raises(NoChunk, match="65,536 bytes"):
        list(logprobs_slices([{"token": "a" * LOGPROBS_LIMIT}]))
