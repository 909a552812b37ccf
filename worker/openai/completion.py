"""A streamed completion of an OpenAI-compatible server, decoded as it arrives and written into a sink."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Protocol

from protos import chat_pb2 as pb
from worker.contract.errors import ModelReported, StreamBroken
from worker.contract.failures import NO_CHUNKS
from worker.contract.fields import Json
from worker.contract.sink import Sink
from worker.contract.tool_call import tool_call
from worker.contract.utf8 import clean
from worker.openai import lenient
from worker.openai.calls import CALLS_LIMIT, Calls
from worker.openai.chunk import (
    NONE,
    ODD,
    CallPart,
    Chunk,
    Decoder,
    Delta,
    Function,
    Logprobs,
    NoChunk,
    logprobs_slices,
)
from worker.openai.companions import Companions
from worker.openai.lenient import Rest
from worker.openai.reasons import BAD, FINISH_REASONS, NO_REASONS, REASON_LIMIT, known_word
from worker.openai.usage import Usage
from worker.openai.writer import Writer
from worker.wire.sse import EventDecoder, EventTooLong

_NO_FUNCTION = Function()
_NO_REST: Json = {}

SILENCE = 16 * 1024 * 1024
"""Bytes of a stream that may arrive without anything to write, such as empty chunks."""


class Events(Protocol):
    """Splits a body into the payloads of its events, as :class:`EventDecoder` does."""

    @property
    def is_stream(self) -> bool: ...

    @property
    def is_plain(self) -> bool: ...

    @property
    def beginning(self) -> str: ...

    def feed(self, received: bytes) -> Iterable[bytes]: ...

    def end(self) -> Iterable[bytes]: ...


class Completion:
    """Consumes a response's body (:class:`worker.wire.connection.Consumer`). What came before an error is written.

    A reply is whole when the model gave a reason for its end, or its usage after the last delta. Then it does not
    matter how the stream ends. ``on_first`` is called once, with the first delta; ``events`` splits the body.
    """

    def __init__(self, sink: Sink, on_first: Callable[[], None] | None = None, events: Events | None = None) -> None:
        self.is_whole = False
        """Whether ``[DONE]`` was received."""
        self.is_over = False
        """Whether nothing more will be written."""
        self._events: Events = events or EventDecoder()
        self._decoder = Decoder()
        self._writer = Writer(sink, on_first)
        self._calls = Calls()
        self._reason = ""
        self._usage = Usage()
        self._companions = Companions(self._writer)
        self._over = asyncio.Event()
        self._error: Exception | None = None

    async def end(self) -> pb.Done:
        """Wait for the end. Raises :class:`StreamBroken`, :class:`ModelReported` and what :meth:`failed` was given."""
        await self._over.wait()
        if self._error is not None:
            raise self._error
        reason = FINISH_REASONS.get(known_word(self._reason), "unknown") if self._reason else "stop"
        if self._calls and reason == "stop":
            reason = "function_calls"
        word = clean(self._reason) if reason == "unknown" else ""
        return pb.Done(finish_reason=reason, usage=self._usage.total(), reason=word)

    # ------------------------------------------------------------ called by the connection

    def data_received(self, data: bytes) -> None:
        self._writer.silent += len(data)
        self._read(data)
        if self._writer.silent > SILENCE:
            self._end(StreamBroken(f"the model's stream said nothing in {SILENCE:,} bytes", self._usage.counts))

    def eof_received(self) -> None:
        self._read(b"")
        self._end(None)

    def failed(self, error: Exception) -> None:
        self._end(None if self._reason else error)

    def _read(self, data: bytes) -> None:
        """Decode ``data``, or what is left when it is empty: the stream has ended."""
        if self.is_over:
            return
        error: Exception | None = None
        try:
            for payload in self._events.feed(data) if data else self._events.end():
                chunk = self._decoder.decode(payload)
                if chunk is not None:
                    self._chunk(chunk)
                elif payload == b"[DONE]" or self._odd(payload):
                    self.is_whole = True
                    break
        except (ModelReported, StreamBroken) as reported:
            error = reported
        except (NoChunk, EventTooLong) as odd:
            error = StreamBroken(f"{NO_CHUNKS}: {odd}", self._usage.counts)
        except ODD:
            error = StreamBroken(NO_CHUNKS, self._usage.counts)
        self._writer.flush()
        if self.is_whole or error is not None:
            self._end(error)

    def _end(self, error: Exception | None) -> None:
        if self.is_over:
            return
        self._writer.end()
        for call in self._calls:
            if left := call.end():
                self._writer.event(tool_call(call.index, "", "", left))
        self._error = error or self._fault()
        if self._error is None:
            self._writer.finish()
        self.is_over = True
        self._over.set()

    def _fault(self) -> Exception | None:
        """Why a reply that has ended without an error is not whole."""
        if known_word(self._reason) in BAD:
            message = f"the model ended its reply with {clean(self._reason)!r}"
            return ModelReported({"message": message, "code": clean(self._reason)})
        if not self._reason and not self._usage.is_last(self._writer.deltas):
            if self._writer.deltas or self._events.is_stream:
                return StreamBroken("the model's stream ended without a finish reason", self._usage.counts)
            return StreamBroken(f"{NO_CHUNKS}: it begins with {self._events.beginning!r}", self._usage.counts)
        if self._companions.unknown and not self._writer.deltas:
            names = clean(", ".join(sorted(self._companions.unknown)))[:REASON_LIMIT]
            return StreamBroken(f"the model's reply is in fields that are not understood: {names}", self._usage.counts)
        return None

    # ------------------------------------------------------------ what a chunk holds

    def _odd(self, payload: bytes) -> bool:
        """Read a payload of another shape than the common one; whether it is ``[DONE]``."""
        try:
            values = lenient.values(payload)
        except ODD:
            if self._reason:  # it does not matter how the stream ends
                return False
            if self._events.is_plain:
                raise NoChunk(f"it begins with {self._events.beginning!r}") from None
            raise
        for value in values:
            if value is lenient.DONE:
                return True
            self._chunk(*lenient.read(value, self._writer.deltas > 0))
        return False

    def _chunk(self, chunk: Chunk, rest: Rest | None = None) -> None:
        choice = chunk.choices[0] if chunk.choices else None
        if chunk.usage:
            with_delta = choice is not None and _says(choice.delta)
            self._usage.note(chunk.usage, self._writer.deltas, with_delta=with_delta)
        if rest is not None:
            self._companions.of_rest(rest)
        elif chunk.system_fingerprint is not NONE or chunk.service_tier is not NONE:
            self._companions.of_chunk(chunk)
        if choice is None:
            return
        if choice.content_filter_results is not NONE:
            self._companions.of_choice(choice)
        if choice.finish_reason and choice.finish_reason.lower() not in NO_REASONS:
            self._reason = choice.finish_reason[:REASON_LIMIT]
        if choice.delta is not None:
            self._delta(choice.delta, rest)
        if choice.logprobs is not None:
            self._logprobs(choice.logprobs, rest)

    def _logprobs(self, logprobs: Logprobs, rest: Rest | None) -> None:
        for part in logprobs_slices(logprobs.content or []):
            self._writer.event(pb.ReplyEvent(logprobs=part))
        if rest is not None and rest.logprobs:
            self._writer.fields({"logprobs": rest.logprobs}, beside=False)

    def _delta(self, delta: Delta, rest: Rest | None) -> None:
        if rest is not None and rest.delta:
            self._writer.fields({"delta": rest.delta}, beside=_says(delta))
        if reasoning := delta.reasoning_content or delta.reasoning:
            if delta.reasoning and delta.reasoning != reasoning:
                self._writer.fields({"delta": {"reasoning": delta.reasoning}}, beside=True)
            self._writer.delta("reasoning", reasoning)
        if delta.content:
            self._writer.delta("text", delta.content)
        if delta.tool_calls:
            if len(delta.tool_calls) > CALLS_LIMIT:
                raise NoChunk(f"an event holds more than {CALLS_LIMIT:,} parts of tool calls")
            for number, part in enumerate(delta.tool_calls):
                self._call(part, rest.calls[number] if rest is not None else _NO_REST, first=number == 0)

    def _call(self, part: CallPart, rest: Json, *, first: bool) -> None:
        function = part.function or _NO_FUNCTION
        id_, name, arguments = part.id or "", function.name or "", function.arguments or ""
        if not (id_ or name or arguments or rest):  # some servers put an empty call beside every text
            return
        call, is_new = self._calls.find(part.index, id_, name, arguments, first=first)
        id_, name, arguments = call.add(id_, name, arguments)
        if is_new:
            id_ = call.id
        says = bool(id_ or name or arguments)
        is_function = "type" not in rest
        if rest:
            head: Json = {"index": call.index} if is_function or not is_new else {"index": call.index, "id": id_}
            self._writer.fields({"delta": {"tool_calls": [head | rest]}}, beside=says and is_function)
        if says and is_function:
            self._writer.event(tool_call(call.index, id_, name, arguments))


def _says(delta: Delta | None) -> bool:
    return delta is not None and bool(delta.content or delta.reasoning_content or delta.reasoning or delta.tool_calls)
