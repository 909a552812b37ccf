"""A streamed completion of an OpenAI-compatible server, decoded as it arrives and written into a sink."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Protocol

from autogen_core.models import FinishReasons, RequestUsage

from protos import chat_pb2 as pb
from worker.contract import failures
from worker.contract.errors import ModelReported, ProviderRefused, StreamBroken
from worker.contract.failures import NO_CHUNKS
from worker.contract.sink import Sink
from worker.contract.text import Text
from worker.contract.tool_call import ID_LIMIT, NAME_LIMIT, tool_call
from worker.contract.utf8 import SurrogateJoiner
from worker.openai.chunk import ODD, CallPart, Chunk, Delta, Function, NoChunk, decode, logprobs_slices
from worker.wire.sse import EventDecoder, EventTooLong

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

CALLS_LIMIT = 1024
"""Tool calls of one reply, and parts of calls in one event."""

_NO_FUNCTION = Function()

SILENCE = 16 * 1024 * 1024
"""Bytes of a stream that may arrive without anything to write, such as empty chunks."""


class Events(Protocol):
    """Splits a body into the payloads of its events, as :class:`EventDecoder` does."""

    def feed(self, received: bytes) -> Iterable[bytes]: ...

    def end(self) -> Iterable[bytes]: ...


class Completion:
    """Consumes a response's body (:class:`worker.wire.connection.Consumer`). What came before an error is written.

    ``on_first`` is called once, with the first delta; ``events`` splits the body.
    """

    def __init__(self, sink: Sink, on_first: Callable[[], None] | None = None, events: Events | None = None) -> None:
        self.is_whole = False
        """Whether ``[DONE]`` was received."""
        self.is_over = False
        """Whether nothing more will be written."""
        self._sink = sink
        self._on_first = on_first
        self._events: Events = events or EventDecoder()
        self._text = Text(sink)
        self._calls: dict[int, _Call] = {}
        self._finish_reason = ""
        self._usage = RequestUsage(prompt_tokens=0, completion_tokens=0)
        self._silent = 0
        self._over = asyncio.Event()
        self._error: Exception | None = None

    async def end(self) -> pb.Done:
        """Wait for the end. Raises :class:`StreamBroken`, :class:`ModelReported` and what :meth:`failed` was given."""
        await self._over.wait()
        if self._error is not None:
            raise self._error
        reason = FINISH_REASONS.get(self._finish_reason.lower(), "unknown")
        return pb.Done(finish_reason=reason, usage=failures.usage(self._usage))

    # ------------------------------------------------------------ called by the connection

    def data_received(self, data: bytes) -> None:
        self._silent += len(data)
        self._read(data)
        if self._silent > SILENCE:
            self._end(StreamBroken(f"the model's stream said nothing in {SILENCE:,} bytes", self._usage))

    def eof_received(self) -> None:
        self._read(b"")
        self._end(None)

    def failed(self, error: Exception) -> None:
        self._end(error)

    def _read(self, data: bytes) -> None:
        """Decode ``data``, or what is left when it is empty: the stream has ended."""
        if self.is_over:
            return
        error: Exception | None = None
        try:
            for payload in self._events.feed(data) if data else self._events.end():
                if payload == b"[DONE]":
                    self.is_whole = True
                    break
                self._chunk(decode(payload))
        except (ModelReported, ProviderRefused, StreamBroken) as reported:
            error = reported
        except (NoChunk, EventTooLong) as odd:
            error = StreamBroken(f"{NO_CHUNKS}: {odd}", self._usage)
        except ODD:
            error = StreamBroken(NO_CHUNKS, self._usage)
        self._text.flush()
        if self.is_whole or error is not None:
            self._end(error)

    def _end(self, error: Exception | None) -> None:
        if self.is_over:
            return
        self._text.end()
        for index, call in self._calls.items():
            if left := call.end():
                self._event(tool_call(index, "", "", left))
        if error is None and not self._finish_reason:
            error = StreamBroken("the model's stream ended without a finish reason", self._usage)
        self._error = error
        self.is_over = True
        self._over.set()

    # ------------------------------------------------------------ what a chunk holds

    def _chunk(self, chunk: Chunk) -> None:
        if chunk.error:
            raise ModelReported(chunk.error)
        if chunk.usage is not None:
            self._usage = RequestUsage(int(chunk.usage.prompt_tokens or 0), int(chunk.usage.completion_tokens or 0))
        if not chunk.choices:
            return
        choice = chunk.choices[0]
        if choice.finish_reason:
            self._finish_reason = choice.finish_reason
        if choice.delta is not None:
            self._delta(choice.delta)
        if choice.logprobs is not None:
            for part in logprobs_slices(choice.logprobs.content or []):
                self._event(pb.ReplyEvent(logprobs=part))

    def _delta(self, delta: Delta) -> None:
        reasoning = delta.reasoning_content or delta.reasoning
        if reasoning and isinstance(reasoning, str):
            self._spoke()
            self._text.add("reasoning", reasoning)
        text = delta.content or delta.refusal
        if text and isinstance(text, str):
            self._spoke()
            self._text.add("text", text)
        if delta.tool_calls:
            if len(delta.tool_calls) > CALLS_LIMIT:
                raise NoChunk(f"an event holds more than {CALLS_LIMIT:,} parts of tool calls")
            for part in delta.tool_calls:
                self._call(part)

    def _call(self, part: CallPart) -> None:
        index = part.index
        if index is None:  # some providers leave it out and send each call whole
            index = len(self._calls)
        if not 0 <= index < 2**32:
            raise NoChunk("a tool call's index is no whole number from 0 to 4,294,967,295")
        function = part.function or _NO_FUNCTION
        id_, name, arguments = part.id or "", function.name or "", function.arguments or ""
        call = self._calls.get(index)
        is_new = call is None
        if call is None:
            if len(self._calls) >= CALLS_LIMIT:
                raise NoChunk(f"more than {CALLS_LIMIT:,} tool calls")
            call = self._calls[index] = _Call()
        arguments = call.add(id_, name, arguments)
        if is_new or id_ or name or arguments:
            self._event(tool_call(index, id_, name, arguments))

    def _event(self, event: pb.ReplyEvent) -> None:
        self._spoke()
        self._text.end()
        self._sink.event(event)

    def _spoke(self) -> None:
        self._silent = 0
        if self._on_first is not None:
            on_first, self._on_first = self._on_first, None
            on_first()


class _Call:
    """A tool call's id and name so far, which some servers repeat in every part, and half a character of its arguments.

    Raises :class:`NoChunk` for a long id or name.
    """

    __slots__ = ("_arguments", "_id", "_name")

    def __init__(self) -> None:
        self._id = self._name = ""
        self._arguments = SurrogateJoiner()

    def add(self, id_: str, name: str, arguments: str) -> str:
        """Add a part; return the arguments to write."""
        if id_ != self._id:
            self._id += id_
        if name != self._name:
            self._name += name
        if len(self._id) > ID_LIMIT:
            raise NoChunk(f"a tool call's id is longer than {ID_LIMIT:,} characters")
        if len(self._name) > NAME_LIMIT:
            raise NoChunk(f"a tool call's name is longer than {NAME_LIMIT:,} characters")
        return self._arguments.join(arguments)

    def end(self) -> str:
        return self._arguments.end()
