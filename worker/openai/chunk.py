"""A chunk of a streamed completion: JSON of bounded cost, whose parts are of the types that OpenAI's API gives them."""

import json
from collections.abc import Iterator
from typing import Any

import orjson
from autogen_core.models import RequestUsage

from worker.contract.utf8 import clean

Json = dict[str, Any]

VALUES_LIMIT = 200_000
"""JSON values of one event, by the characters that separate them: they are decoded in less than 20 ms."""

FEW = 64 * 1024
"""Bytes of an event that cannot hold too many values."""

LOGPROBS_SLICE = 16 * 1024
"""Bytes of log probabilities in one event of the reply, unless those of one token take more."""

LOGPROBS_LIMIT = 64 * 1024
"""Bytes of one token's log probabilities."""

ODD = (ValueError, TypeError, ArithmeticError, RecursionError)
"""Raised for odd JSON: NaN, infinities, numbers of thousands of digits, half characters, deep nesting."""


class NoChunk(ValueError):
    """What the model sent is not a chunk of a completion; its text says why."""


def decode(payload: bytes) -> Json:
    """The chunk in an event. Raises :class:`NoChunk`, and :data:`ODD` for odd JSON."""
    if len(payload) > FEW and sum(map(payload.count, (b"[", b"{", b":", b","))) > VALUES_LIMIT:
        raise NoChunk(f"an event holds more than {VALUES_LIMIT:,} JSON values")
    try:
        chunk = orjson.loads(payload)
    except orjson.JSONDecodeError:
        chunk = json.loads(payload)  # accepts half surrogate pairs, NaN and infinities
    if not isinstance(chunk, dict):
        raise NoChunk("an event is no object")
    return chunk


def object_of(value: Json, name: str) -> Json:
    """The object of that name; an empty one where there is none. Raises :class:`NoChunk`."""
    found = value.get(name)
    if not found:
        return {}
    if not isinstance(found, dict):
        raise NoChunk(f"{name} is no object")
    return found


def list_of(value: Json, name: str) -> list[Any]:
    """The list of that name; an empty one where there is none. Raises :class:`NoChunk`."""
    found = value.get(name)
    if not found:
        return []
    if not isinstance(found, list):
        raise NoChunk(f"{name} is no list")
    return found


def text_of(value: Json, name: str) -> str:
    """The text of that name; an empty one where there is none. Raises :class:`NoChunk`."""
    found = value.get(name)
    if not found:
        return ""
    if not isinstance(found, str):
        raise NoChunk(f"{name} is no text")
    return found


def usage_of(usage: Json) -> RequestUsage:
    """Token counts. Raises :class:`NoChunk`, ``ValueError`` for NaN and ``OverflowError`` for infinity."""
    return RequestUsage(_count(usage, "prompt_tokens"), _count(usage, "completion_tokens"))


def _count(usage: Json, name: str) -> int:
    found = usage.get(name) or 0
    if not isinstance(found, int | float):
        raise NoChunk(f"{name} is no number")
    return int(found)


def logprobs_slices(logprobs: list[Any]) -> Iterator[str]:
    """``logprobs`` as JSON arrays of bounded length; none for an empty list. Raises :class:`NoChunk`."""
    if not logprobs:
        return
    if not all(isinstance(token, dict) for token in logprobs):
        raise NoChunk("a token's log probabilities are no object")
    whole = _dumps(logprobs)
    if len(whole) <= LOGPROBS_SLICE:
        yield whole
        return
    tokens: list[str] = []
    size = 0
    for token in map(_dumps, logprobs):
        if len(token) > LOGPROBS_LIMIT:
            raise NoChunk(f"the log probabilities of one token are longer than {LOGPROBS_LIMIT:,} bytes")
        if tokens and size + len(token) > LOGPROBS_SLICE:
            yield f"[{','.join(tokens)}]"
            tokens, size = [], 0
        tokens.append(token)
        size += len(token)
    yield f"[{','.join(tokens)}]"


def _dumps(value: object) -> str:
    """``value`` as JSON that any decoder accepts: half characters are replaced, infinities and NaN become null."""
    # The gateway puts this into objects of its own, which must not be too deep for orjson then.
    try:
        return orjson.dumps([[[[[[[[value]]]]]]]]).decode()[8:-8]
    except orjson.JSONEncodeError:
        plain = orjson.loads(clean(json.dumps(value, ensure_ascii=False, allow_nan=False)))
        return orjson.dumps([[[[[[[[plain]]]]]]]]).decode()[8:-8]
