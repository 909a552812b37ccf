"""A completion as an OpenAI-compatible server streams it: decoded, in pieces, and as a whole when it is over."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import httpx2
import openai
import orjson
from autogen_core import FunctionCall
from autogen_core.models import CreateResult, FinishReasons, RequestUsage

from worker.contract.utf8 import clean
from worker.openai.pieces import ReasoningText, TextPiece, TokenLogprobs, ToolCallPart, joined
from worker.openai.sse import EventDecoder, EventTooLong
from worker.openai.text_frame import TextFrame
from worker.wire.connection import BODY, Connection
from worker.wire.pacer import Pacer

Json = dict[str, Any]

FINISH_REASONS: dict[str, FinishReasons] = {
    "stop": "stop",
    "end_turn": "stop",
    "length": "length",
    "content_filter": "content_filter",
    "tool_calls": "function_calls",
    "function_calls": "function_calls",
    "function_call": "function_calls",
}
"""Servers' finish reasons in AutoGen's words."""


NO_CHUNKS = "the model's stream holds something else than chunks"

VALUES_LIMIT = 200_000
"""JSON values of one event, by the characters that separate them: so many are decoded in less than 20 ms."""

FEW = 64 * 1024
"""Bytes of an event in which there cannot be too many values to decode."""

CALLS_LIMIT = 1024
"""Tool calls of one reply, and parts of calls in one event."""

NAME_LIMIT = 1024
"""Characters of a tool call's name."""

ID_LIMIT = 16 * 1024
"""Characters of a tool call's id, in which some servers put a model's signature."""

LOGPROBS_SLICE = 16 * 1024
"""Bytes of log probabilities that are passed on at a time, unless those of one token take more."""

LOGPROBS_LIMIT = 64 * 1024
"""Bytes of one token's log probabilities."""

PIECES = 64
"""Pieces that are passed on in one turn of the loop: some hundred microseconds of work."""

SILENCE = 16 * 1024 * 1024
"""Bytes of a stream without a piece for the user, as of chunks that say nothing."""

STEP = 32 * 1024
"""Bytes of a stream that are decoded in one turn of the loop: at most about 10 ms of work."""


ODD = (ValueError, TypeError, ArithmeticError, RecursionError)
"""What odd JSON raises: NaN, infinities, numbers of thousands of digits, half characters, deep nesting."""


class StreamBroken(Exception):
    """The model's stream is not what was agreed, or ended early. ``usage`` is what it had told by then."""

    def __init__(self, message: str, usage: RequestUsage) -> None:
        super().__init__(message)
        self.usage = usage


class NoChunk(ValueError):
    """What the model sent is no chunk of a completion; its text says why."""


class ModelReported(Exception):
    """The model reported an error inside its stream; ``body`` is what it said."""

    def __init__(self, body: object) -> None:
        super().__init__("the model reported an error")
        self.body = body


class _Call:
    """A tool call so far; only its length, unless it is kept."""

    __slots__ = ("arguments", "id", "name")

    def __init__(self) -> None:
        self.id = ""
        self.name = ""
        self.arguments: list[str] = []

    def label(self, piece: ToolCallPart) -> None:
        """Add a part's id and name, which some servers repeat in every part. Raises :class:`NoChunk`."""
        if piece.id != self.id:
            self.id += piece.id
        if piece.name != self.name:
            self.name += piece.name
        if len(self.id) > ID_LIMIT:
            raise NoChunk(f"a tool call's id is longer than {ID_LIMIT:,} characters")
        if len(self.name) > NAME_LIMIT:
            raise NoChunk(f"a tool call's name is longer than {NAME_LIMIT:,} characters")


class Reply:
    """What the chunks of one stream amount to so far. Without ``keep`` text and arguments are only passed on."""

    def __init__(self, keep: bool = True) -> None:
        self.finish_reason: str | None = None
        self.usage = RequestUsage(prompt_tokens=0, completion_tokens=0)
        self._keep = keep
        self._text: list[str] = []
        self._thought: list[str] = []
        self._calls: dict[int, _Call] = {}

    def add_text(self, text: str) -> None:
        """Note text that was passed on already."""
        if self._keep:
            self._text.append(text)

    def take(self, payload: bytes) -> list[str]:
        """Note a chunk and return its pieces.

        Raises :class:`ModelReported`, :class:`NoChunk`, and what decoders raise for odd JSON (:data:`ODD`).
        """
        if len(payload) > FEW and sum(map(payload.count, (b"[", b"{", b":", b","))) > VALUES_LIMIT:
            raise NoChunk(f"an event holds more than {VALUES_LIMIT:,} JSON values")
        try:
            chunk = orjson.loads(payload)
        except orjson.JSONDecodeError:
            chunk = json.loads(payload)  # takes half surrogate pairs, NaN and infinities
        if not isinstance(chunk, dict):
            raise NoChunk("an event is no object")
        if error := chunk.get("error"):
            raise ModelReported(error)
        if usage := _object(chunk, "usage"):
            self.usage = RequestUsage(_count(usage, "prompt_tokens"), _count(usage, "completion_tokens"))
        choices = _list(chunk, "choices")
        if not choices:
            return []
        if not isinstance(choices[0], dict):
            raise NoChunk("a choice is no object")
        return self._choice(choices[0])

    def _choice(self, choice: Json) -> list[str]:
        self.finish_reason = _text(choice, "finish_reason") or self.finish_reason
        delta = _object(choice, "delta")
        pieces: list[str] = []
        reasoning = delta.get("reasoning_content") or delta.get("reasoning")
        if isinstance(reasoning, str) and reasoning:
            if self._keep:
                self._thought.append(reasoning)
            pieces.append(ReasoningText(reasoning))
        text = delta.get("content") or delta.get("refusal")
        if isinstance(text, str) and text:
            self.add_text(text)
            pieces.append(TextPiece(text))
        if logprobs := _list(_object(choice, "logprobs"), "content"):
            pieces.extend(map(TokenLogprobs, _slices(logprobs)))
        if parts := _list(delta, "tool_calls"):
            if len(parts) > CALLS_LIMIT:
                raise NoChunk(f"an event holds more than {CALLS_LIMIT:,} parts of tool calls")
            pieces.extend(piece for part in parts if (piece := self._call(part)) is not None)
        return pieces

    def _call(self, part: object) -> ToolCallPart | None:
        """The piece for a part of a tool call; None for one that says nothing."""
        if not isinstance(part, dict):
            raise NoChunk("a part of a tool call is no object")
        index = part.get("index")
        if index is None:  # some providers leave it out and send each call whole
            index = len(self._calls)
        if type(index) is not int or not 0 <= index < 2**32:
            raise NoChunk("a tool call's index is no whole number from 0 to 4,294,967,295")
        function = _object(part, "function")
        piece = ToolCallPart(index, _text(part, "id"), _text(function, "name"), _text(function, "arguments"))
        call = self._calls.get(index)
        if call is None:
            if len(self._calls) >= CALLS_LIMIT:
                raise NoChunk(f"more than {CALLS_LIMIT:,} tool calls")
            call = self._calls[index] = _Call()
        elif not (piece.id or piece.name or piece.arguments):
            return None
        call.label(piece)
        if self._keep:
            call.arguments.append(piece.arguments)
        return piece

    def result(self) -> CreateResult:
        """The whole, once the stream has said that it is complete. Raises :class:`StreamBroken`."""
        if self.finish_reason is None:
            raise StreamBroken("the model's stream ended without a finish reason", self.usage)
        text = "".join(self._text)
        thought = "".join(self._thought) or None
        calls = [
            FunctionCall(id=call.id, name=call.name, arguments="".join(call.arguments)) for call in self._calls.values()
        ]
        return CreateResult(
            finish_reason=FINISH_REASONS.get(self.finish_reason.lower(), "unknown"),
            content=calls or text,
            usage=self.usage,
            cached=False,
            thought=(thought or text or None) if calls else thought,
        )


def _object(value: Json, name: str) -> Json:
    """The object of that name; an empty one where there is none. Raises :class:`NoChunk`."""
    found = value.get(name)
    if not found:
        return {}
    if not isinstance(found, dict):
        raise NoChunk(f"{name} is no object")
    return found


def _list(value: Json, name: str) -> list[Any]:
    found = value.get(name)
    if not found:
        return []
    if not isinstance(found, list):
        raise NoChunk(f"{name} is no list")
    return found


def _text(value: Json, name: str) -> str:
    found = value.get(name)
    if not found:
        return ""
    if not isinstance(found, str):
        raise NoChunk(f"{name} is no text")
    return found


def _count(usage: Json, name: str) -> int:
    """A number of tokens. Raises :class:`NoChunk`, ``ValueError`` for NaN and ``OverflowError`` for infinity."""
    found = usage.get(name) or 0
    if not isinstance(found, int | float):
        raise NoChunk(f"{name} is no number")
    return int(found)


def _slices(logprobs: list[Any]) -> Iterator[str]:
    """``logprobs`` as JSON arrays of bounded length."""
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
    """``value`` as JSON that any decoder takes: half characters are replaced, infinities and NaN null."""
    # The gateway puts this into objects of its own, which must not be too deep for orjson then.
    try:
        return orjson.dumps([[[[[[[[value]]]]]]]]).decode()[8:-8]
    except orjson.JSONEncodeError:
        plain = orjson.loads(clean(json.dumps(value, ensure_ascii=False, allow_nan=False)))
        return orjson.dumps([[[[[[[[plain]]]]]]]]).decode()[8:-8]


class Stream:
    """The stream's pieces up to ``[DONE]`` or its end, with the transport's errors as the SDK's."""

    def __init__(
        self,
        response: httpx2.Response,
        reply: Reply,
        pacer: Pacer | None,
        tap: Callable[[str, int], bool] | None,
    ) -> None:
        self._tap = tap
        self._frame = TextFrame()
        self._response = response
        self._reply = reply
        self._pacer = pacer
        self._decoder = EventDecoder()
        self._read, self._connection = _reader(response)
        self._left = b""
        """What was received and is not decoded."""
        self._silent = 0
        self._done = False
        self._error: Exception | None = None

    async def next(self) -> list[str] | None:
        """The pieces that came next, at least one; None at the end. What came before an error is given first."""
        while not self._done and self._error is None:
            received = await self._receive()
            self._silent += len(received)
            if pieces := self._pieces(received):
                self._silent = 0
                if self._pacer is not None and self._connection is not None:
                    self._connection.pace(self._pacer, self._tapped if self._tap is not None else None)
                return joined(pieces) if len(pieces) > 1 else pieces
            if self._silent > SILENCE:
                raise StreamBroken(f"the model's stream said nothing in {SILENCE:,} bytes", self._reply.usage)
        if self._error is not None:
            raise self._error
        return None

    async def _receive(self) -> bytes:
        """What came next, so much that decoding it does not hold up the loop; nothing at the end."""
        if self._left:
            await asyncio.sleep(0)
        else:
            self._left = await self._receive_all()
        if len(self._left) <= STEP:
            received, self._left = self._left, b""
        else:
            received, self._left = self._left[:STEP], self._left[STEP:]
        return received

    async def _receive_all(self) -> bytes:
        try:
            return await self._read()
        except httpx2.TimeoutException as error:
            raise openai.APITimeoutError(self._response.request) from error
        except httpx2.TransportError as error:
            raise openai.APIConnectionError(request=self._response.request) from error

    def _pieces(self, received: bytes) -> list[str]:
        pieces: list[str] = []
        try:
            for payload in self._decoder.feed(received) if received else self._decoder.end():
                if payload == b"[DONE]":
                    self._done = True
                    if self._connection is not None:
                        self._connection.say_all()
                    break
                taken = _take(self._reply, payload)
                if len(taken) == 1 and type(taken[0]) is TextPiece:
                    self._frame.learn(payload, taken[0])
                pieces += taken
        except (StreamBroken, ModelReported) as error:
            self._error = error
        except EventTooLong as error:
            self._error = StreamBroken(f"{NO_CHUNKS}: {error}", self._reply.usage)
        self._done = self._done or not received
        return pieces

    def _tapped(self, received: bytes) -> bool:
        """Take what was received if it is text in whole events and nothing else."""
        assert self._tap is not None
        texts = self._frame.texts(received) if self._decoder.empty else None
        if texts is None:
            return False
        text = "".join(texts)
        if not self._tap(text, len(texts)):
            return False
        self._reply.add_text(text)
        return True


def _take(reply: Reply, payload: bytes) -> list[str]:
    try:
        return reply.take(payload)
    except NoChunk as error:
        raise StreamBroken(f"{NO_CHUNKS}: {error}", reply.usage) from None
    except ODD:
        raise StreamBroken(NO_CHUNKS, reply.usage) from None


def _reader(response: httpx2.Response) -> tuple[Callable[[], Awaitable[bytes]], Connection | None]:
    """What gives the body as it arrives, and nothing at its end.

    It is the connection itself, which is given too, where that is ours and nothing has to be decoded.
    """
    connection: Connection | None = response.extensions.get(BODY)
    if connection is not None:
        return connection.read, connection
    chunks = response.aiter_bytes()
    return lambda: anext(chunks, b""), None
