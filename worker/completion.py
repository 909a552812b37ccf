"""A completion as an OpenAI-compatible server streams it: decoded, in pieces, and as a whole when it is over."""

import json
from collections.abc import Awaitable, Callable

import aiohttp
import httpx2
import openai
import orjson
from autogen_core import FunctionCall
from autogen_core.models import CreateResult, FinishReasons, RequestUsage

from worker.http1 import BODY, Connection
from worker.pacer import Pacer
from worker.pieces import Json, ReasoningText, TextPiece, TokenLogprobs, ToolCallPart, joined
from worker.sse import EventDecoder, EventTooLong
from worker.text_frame import TextFrame

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


class StreamBroken(Exception):
    """The model's stream is not what was agreed, or ended early. ``usage`` is what it had told by then."""

    def __init__(self, message: str, usage: RequestUsage) -> None:
        super().__init__(message)
        self.usage = usage


class ModelReported(Exception):
    """The model reported an error inside its stream; ``body`` is what it said."""

    def __init__(self, body: object) -> None:
        super().__init__("the model reported an error")
        self.body = body


class Reply:
    """What the chunks of one stream amount to so far."""

    def __init__(self) -> None:
        self.text: list[str] = []
        self.thought: list[str] = []
        self.calls: dict[int, FunctionCall] = {}
        self.finish_reason: str | None = None
        self.usage = RequestUsage(prompt_tokens=0, completion_tokens=0)

    def take(self, payload: bytes) -> list[str]:
        """Note a chunk and return its pieces of reasoning and text. Raises :class:`ModelReported`, ``ValueError``."""
        try:
            chunk = orjson.loads(payload)
        except orjson.JSONDecodeError:
            chunk = json.loads(payload)  # takes half surrogate pairs, NaN and infinities
        if not isinstance(chunk, dict):
            raise ValueError("a chunk is no object")
        if error := chunk.get("error"):
            raise ModelReported(error)
        usage = chunk.get("usage")
        if isinstance(usage, dict):
            self.usage = RequestUsage(int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0))
        choices = chunk.get("choices")
        return self._choice(choices[0]) if choices else []

    def _choice(self, choice: Json) -> list[str]:
        self.finish_reason = choice.get("finish_reason") or self.finish_reason
        delta: Json = choice.get("delta") or {}
        pieces: list[str] = []
        reasoning = delta.get("reasoning_content") or delta.get("reasoning")
        if isinstance(reasoning, str) and reasoning:
            self.thought.append(reasoning)
            pieces.append(ReasoningText(reasoning))
        text = delta.get("content") or delta.get("refusal")
        if isinstance(text, str) and text:
            self.text.append(text)
            pieces.append(TextPiece(text))
        logprobs = (choice.get("logprobs") or {}).get("content")
        if logprobs:
            pieces.append(TokenLogprobs(logprobs))
        pieces.extend(self._call(part) for part in delta.get("tool_calls") or ())
        return pieces

    def _call(self, part: Json) -> ToolCallPart:
        index = part.get("index")
        if index is None:  # some providers leave it out and send each call whole
            index = len(self.calls)
        call = self.calls.setdefault(index, FunctionCall(id="", arguments="", name=""))
        function: Json = part.get("function") or {}
        piece = ToolCallPart(index, part.get("id") or "", function.get("name") or "", function.get("arguments") or "")
        call.id += piece.id
        call.name += piece.name
        call.arguments += piece.arguments
        return piece

    def result(self) -> CreateResult:
        """The whole, once the stream has said that it is complete. Raises :class:`StreamBroken`."""
        if self.finish_reason is None:
            raise StreamBroken("the model's stream ended without a finish reason", self.usage)
        text = "".join(self.text)
        thought = "".join(self.thought) or None
        return CreateResult(
            finish_reason=FINISH_REASONS.get(self.finish_reason.lower(), "unknown"),
            content=list(self.calls.values()) if self.calls else text,
            usage=self.usage,
            cached=False,
            thought=(thought or text or None) if self.calls else thought,
        )


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
        self._done = False
        self._error: Exception | None = None

    async def next(self) -> list[str] | None:
        """The pieces that came next, at least one; None at the end. What came before an error is given first."""
        while not self._done and self._error is None:
            received = await self._receive()
            if pieces := self._pieces(received):
                if self._pacer is not None and self._connection is not None:
                    self._connection.pace(self._pacer, self._tapped if self._tap is not None else None)
                return joined(pieces) if len(pieces) > 1 else pieces
        if self._error is not None:
            raise self._error
        return None

    async def _receive(self) -> bytes:
        try:
            return await self._read()
        except httpx2.TransportError as error:
            if is_timeout(error):
                raise openai.APITimeoutError(self._response.request) from error
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
        except EventTooLong:
            self._error = StreamBroken("the model's stream holds something else than chunks", self._reply.usage)
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
        self._reply.text.append(text)
        return True


def _take(reply: Reply, payload: bytes) -> list[str]:
    try:
        return reply.take(payload)
    except (ValueError, TypeError, AttributeError, LookupError):
        raise StreamBroken("the model's stream holds something else than chunks", reply.usage) from None


def _reader(response: httpx2.Response) -> tuple[Callable[[], Awaitable[bytes]], Connection | None]:
    """What gives the body as it arrives, and nothing at its end.

    It is the connection itself, which is given too, where that is ours and nothing has to be decoded.
    """
    connection: Connection | None = response.extensions.get(BODY)
    if connection is not None and "content-encoding" not in response.headers:
        return connection.read, connection
    chunks = response.aiter_bytes()
    return lambda: anext(chunks, b""), None


def is_timeout(error: BaseException) -> bool:
    """Whether time ran out: the SDK's aiohttp transport passes every lost connection for a connect timeout."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, aiohttp.ClientConnectionError):
            return isinstance(cause, TimeoutError)
        cause = cause.__cause__
    return isinstance(error, openai.APITimeoutError | httpx2.TimeoutException)
