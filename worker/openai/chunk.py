"""A chunk of a streamed completion, decoded at bounded cost. What we do not read of it is skipped, not built."""

import json
from collections.abc import Iterator
from typing import Any

import msgspec
import orjson

from worker.contract.utf8 import clean

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


class Function(msgspec.Struct, gc=False):
    name: str | None = None
    arguments: str | None = None


class CallPart(msgspec.Struct, gc=False):
    index: int | None = None
    id: str | None = None
    function: Function | None = None


class Delta(msgspec.Struct, gc=False):
    content: Any = None
    refusal: Any = None
    reasoning_content: Any = None
    reasoning: Any = None
    tool_calls: list[CallPart] | None = None


class Logprobs(msgspec.Struct):
    content: list[dict[str, Any]] | None = None


class Choice(msgspec.Struct, gc=False):
    delta: Delta | None = None
    finish_reason: str | None = None
    logprobs: Logprobs | None = None


class Usage(msgspec.Struct, gc=False):
    prompt_tokens: int | float | None = None
    completion_tokens: int | float | None = None


class Chunk(msgspec.Struct, gc=False):
    """A field may be null or absent. Text is of any type: some servers send reasoning as an object, which we ignore."""

    choices: list[Choice] | None = None
    usage: Usage | None = None
    error: Any = None


_decoder = msgspec.json.Decoder(Chunk)


def decode(payload: bytes) -> Chunk:
    """The chunk in an event. Raises :class:`NoChunk`, and :data:`ODD` for odd JSON."""
    check_values(payload)
    try:
        return _decoder.decode(payload)
    except msgspec.ValidationError as error:
        raise NoChunk(str(error)) from None
    except msgspec.DecodeError:
        odd = json.loads(payload)  # accepts half characters, NaN and infinities
    try:
        return msgspec.convert(odd, Chunk)
    except msgspec.ValidationError as error:
        raise NoChunk(str(error)) from None


def check_values(payload: bytes) -> None:
    """Raises :class:`NoChunk` for an event that would take too long to decode."""
    if len(payload) > FEW and sum(map(payload.count, (b"[", b"{", b":", b","))) > VALUES_LIMIT:
        raise NoChunk(f"an event holds more than {VALUES_LIMIT:,} JSON values")


def logprobs_slices(logprobs: list[Any]) -> Iterator[str]:
    """``logprobs`` as JSON arrays of bounded length; none for an empty list. Raises :class:`NoChunk`."""
    if not logprobs:
        return
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
