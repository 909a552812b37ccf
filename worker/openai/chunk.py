"""A chunk of a streamed completion, decoded at bounded cost.

Chunks of the common shape are decoded into structs that know every field of it: whatever else a chunk holds makes
:meth:`Decoder.decode` return None, and :mod:`worker.openai.lenient` reads it.
"""

import json
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import msgspec
import orjson

from worker.contract.fields import dumps

VALUES_LIMIT = 200_000
"""JSON values of one event, by the characters that separate them: they are decoded in less than 20 ms."""

ODD_VALUES_LIMIT = 40_000
"""JSON values of an event that is not of the common shape: they become objects, and are written again."""

FEW = 32 * 1024
"""Bytes of an event that cannot hold too many values."""

LOGPROBS_SLICE = 16 * 1024
"""Bytes of log probabilities in one event of the reply, unless those of one token take more."""

LOGPROBS_LIMIT = 64 * 1024
"""Bytes of one token's log probabilities."""

ODD = (ValueError, TypeError, ArithmeticError, RecursionError)
"""Raised for odd JSON: NaN, infinities, numbers of thousands of digits, half characters, deep nesting."""

OURS = frozenset({"id", "object", "created", "model", "obfuscation", "p"})
"""Fields of a chunk that are not passed on: the reply has its own, and no padding (``p`` is Mistral's).

Beside them are left out: a choice's ``index``, a delta's ``role``, a ``message`` beside a ``delta``, and what is null.
"""

Raw = msgspec.Raw
Empty = Annotated[list[Any], msgspec.Meta(max_length=0)] | None
NONE = Raw()
"""The value of a :class:`Raw` field that is absent."""


class NoChunk(ValueError):
    """What the model sent is not a chunk of a completion; its text says why."""


class Function(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    name: str | None = None
    arguments: str | None = None


class CallPart(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    index: int | None = None
    id: str | None = None
    function: Function | None = None
    type: Literal["function"] | None = None


class Delta(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[CallPart] | None = None
    role: Raw = NONE
    refusal: None = None
    function_call: None = None
    audio: None = None
    reasoning_details: Empty = None
    annotations: Empty = None


class Logprobs(msgspec.Struct, forbid_unknown_fields=True):
    content: list[dict[str, Any]] | None = None
    refusal: Empty = None


class Choice(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    delta: Delta | None = None
    index: Literal[0] = 0
    finish_reason: str | None = None
    logprobs: Logprobs | None = None
    usage: None = None
    error: None = None
    message: None = None
    stop_reason: None = None
    native_finish_reason: None = None
    matched_stop: None = None
    content_filter_results: Raw = NONE


class Chunk(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """What is ours is not built, and what rarely changes is compared as it came."""

    choices: Annotated[list[Choice], msgspec.Meta(max_length=1)] | None = None
    usage: dict[str, Any] | None = None
    error: None = None
    id: Raw = NONE
    object: Raw = NONE
    created: Raw = NONE
    model: Raw = NONE
    obfuscation: Raw = NONE
    p: Raw = NONE
    system_fingerprint: Raw = NONE
    service_tier: Raw = NONE


_NO_HEAD = b"\0"
"""No payload begins so."""

_decoder = msgspec.json.Decoder(Chunk)


class Decoder:
    """Decodes the chunks of one stream. What comes before the choices is skipped where it is what it was before.

    If that is anything but whole members of the chunk, what is left of it is no JSON.
    """

    def __init__(self) -> None:
        self._head = _NO_HEAD

    def decode(self, payload: bytes) -> Chunk | None:
        """The chunk in an event, or None for one of another shape. Raises :class:`NoChunk`."""
        if payload.startswith(self._head):
            payload = b"{" + payload[len(self._head) :]
        else:
            self._head = payload[: max(0, payload.find(b'"choices"'))]
            if len(self._head) < 2:
                self._head = _NO_HEAD
        values = _values(payload) if len(payload) > FEW else 0
        if values > VALUES_LIMIT:
            raise NoChunk(f"an event holds more than {VALUES_LIMIT:,} JSON values")
        try:
            return _decoder.decode(payload)
        except msgspec.DecodeError:
            if values > ODD_VALUES_LIMIT:
                raise NoChunk(f"an event of an odd shape holds more than {ODD_VALUES_LIMIT:,} JSON values") from None
            return None


def check_values(payload: bytes) -> None:
    """Raises :class:`NoChunk` for an event that takes too long to build."""
    if len(payload) > FEW and _values(payload) > ODD_VALUES_LIMIT:
        raise NoChunk(f"an event holds more than {ODD_VALUES_LIMIT:,} JSON values")


def _values(payload: bytes) -> int:
    return sum(map(payload.count, (b"[", b"{", b":", b",")))


def loads(payload: bytes) -> Any:
    """Any JSON, with half characters, NaN and infinities. Raises :data:`ODD`."""
    try:
        return orjson.loads(payload)
    except orjson.JSONDecodeError:
        return json.loads(payload)


def logprobs_slices(logprobs: list[Any]) -> Iterator[str]:
    """``logprobs`` as JSON arrays of bounded length; none for an empty list. Raises :class:`NoChunk`."""
    if not logprobs:
        return
    whole = dumps(logprobs)
    if len(whole) <= LOGPROBS_SLICE:
        yield whole
        return
    tokens: list[str] = []
    size = 0
    for token in map(dumps, logprobs):
        if len(token) > LOGPROBS_LIMIT:
            raise NoChunk(f"the log probabilities of one token are longer than {LOGPROBS_LIMIT:,} bytes")
        if tokens and size + len(token) > LOGPROBS_SLICE:
            yield f"[{','.join(tokens)}]"
            tokens, size = [], 0
        tokens.append(token)
        size += len(token)
    yield f"[{','.join(tokens)}]"
