"""A chunk is decoded at bounded cost, and what is not read of it does no harm."""

import json

import pytest

from worker.openai.chunk import FEW, LOGPROBS_LIMIT, LOGPROBS_SLICE, VALUES_LIMIT, Decoder, NoChunk, logprobs_slices


def test_what_is_ours_is_skipped() -> None:
    chunk = Decoder().decode(
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
        b'{"choices": [{"index": 0}, {"index": 0}]}',
        b'{"choices": [], "message": "no"}',
        b'{"choices": [{"delta": {"refusal": "no"}}]}',
        b'{"choices": [{"delta": {"annotations": [{}]}}]}',
        b'{"choices": [{"delta": {"tool_calls": [{"extra_content": {}}]}}]}',
        b'{"choices": [{"error": {}}]}',
    ],
)
def test_any_other_shape_is_read_elsewhere(payload: bytes) -> None:
    assert Decoder().decode(payload) is None


def test_the_chunk_with_the_usage_is_of_the_common_shape() -> None:
    """It ends every stream."""
    chunk = Decoder().decode(b'{"id": "c", "choices": [], "usage": {"prompt_tokens": 1, "x": {}}, "service_tier": "a"}')
    assert chunk is not None
    assert (chunk.choices, chunk.usage) == ([], {"prompt_tokens": 1, "x": {}})


HEAD = b'{"id": "c", "x": {"a": 1}, '


@pytest.mark.parametrize("head", [HEAD, b"{", b'{"object": "choices", ', b'{"x": {"choices": []}, '])
def test_what_comes_before_the_choices_is_skipped_only_where_it_is_the_same(head: bytes) -> None:
    decoder = Decoder()
    chunk = b'"choices": [{"delta": {"content": "a"}}], "y": 1}'
    common = chunk.replace(b', "y": 1', b"")
    decoder.decode(head + common)
    again = decoder.decode(head + common)
    assert (again is not None) == (head in (HEAD, b"{"))
    for other in (head + chunk, head.replace(b"{", b'{"z": 1, ', 1) + common):
        assert decoder.decode(other) is None


def test_an_event_of_too_many_values_is_not_decoded() -> None:
    with pytest.raises(NoChunk, match="200,000 JSON values"):
        Decoder().decode(b'{"x": [' + b"1," * VALUES_LIMIT + b"1]}")
    chunk = Decoder().decode(b'{"id": "' + b"a" * 2 * FEW + b'"}')
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
