"""The answer of an endpoint other than chat, written into a sink as it comes, but for the model's name."""

import asyncio
import codecs
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable

import msgspec
import orjson
from autogen_core.models import RequestUsage

from protos import chat_pb2 as pb
from worker.contract import failures
from worker.contract.errors import ModelReported, StreamBroken
from worker.contract.sink import Sink
from worker.openai.completion import SILENCE
from worker.openai.members import Members, NoObject
from worker.wire.sse import EventDecoder, EventTooLong

KIND = "answer"
"""Of the events that hold the answer's text."""

SLICE = 16 * 1024
"""Bytes of the answer in one event."""

HELD = 64 * 1024
"""Bytes of an answer that are held until it is complete: what goes wrong until then is told, or tried elsewhere."""

MARKS = 100_000
"""Quotes and brackets of one event of a stream, which are read in less than 50 ms."""

BEGINNING = 60
"""Bytes of an answer that is none which are told."""

_NOTHING = frozenset({b"", b"null", b"false", b"{}"})
_ERROR = frozenset({b"message", b"code", b"type", b"param"})
_KEPT = frozenset({b"usage", b"error", b"object"}) | _ERROR
_FINISHED = re.compile(rb'"finish_reason"\s*:\s*"')
_LINE_ENDS = bytes.maketrans(b"\r\n", b"  ")


class _Counts(msgspec.Struct):
    prompt_tokens: float | None = None
    completion_tokens: float | None = None
    total_tokens: float | None = None


class _Answer(ABC):
    """A :class:`worker.wire.streamed.Reply`. ``model`` is the name that the client knows."""

    def __init__(self, sink: Sink, model: str) -> None:
        self.is_whole = False
        self._sink = sink
        self._replaced = {b"model": orjson.dumps(model)}
        self._silent = 0
        self._beginning = b""
        self._text = codecs.getincrementaldecoder("utf-8")("replace")
        self._usage = RequestUsage(prompt_tokens=0, completion_tokens=0)
        self._over = asyncio.Event()
        self._error: Exception | None = None

    @property
    def is_over(self) -> bool:
        return self._over.is_set()

    async def end(self) -> pb.Done:
        """Wait for the end. Raises :class:`StreamBroken`, :class:`ModelReported` and what :meth:`failed` was given."""
        await self._over.wait()
        if self._error is not None:
            raise self._error
        return pb.Done(finish_reason="stop", usage=failures.usage(self._usage))

    def data_received(self, data: bytes) -> None:
        self._silent += len(data)
        self._beginning = self._beginning or data[:BEGINNING]
        self._read(data)
        if self._silent > SILENCE:
            self._end(StreamBroken(f"the model's answer said nothing in {SILENCE:,} bytes", self._usage))

    def eof_received(self) -> None:
        self._read(b"")

    def failed(self, error: Exception) -> None:
        self._end(error)

    @abstractmethod
    def _add(self, data: bytes) -> None:
        """Write what ``data`` makes, or what is left when it is empty: the body has ended."""

    def _read(self, data: bytes) -> None:
        if self.is_over:
            return
        try:
            self._add(data)
        except (ModelReported, StreamBroken) as error:
            self._end(error)
        except (NoObject, EventTooLong) as odd:
            beginning = self._beginning.decode(errors="replace")
            wrong = f"the model's answer is not what its API sends: {odd}; it begins with {beginning!r}"
            self._end(StreamBroken(wrong, self._usage))
        else:
            if self.is_whole:
                self._end(None)
            elif not data:
                self._end(StreamBroken("the model's answer ended before it was complete", self._usage))

    def _end(self, error: Exception | None) -> None:
        if not self.is_over:
            self._error = error
            self._over.set()

    def _note(self, members: Members) -> None:
        """Note the usage. Raises :class:`ModelReported`."""
        error = members.kept.get(b"error", b"")
        if error not in _NOTHING:
            raise ModelReported(_loads(error))
        if members.kept.get(b"object") == b'"error"':  # FastChat's and vLLM's
            raise ModelReported({name.decode(): _loads(members.kept.get(name, b"null")) for name in _ERROR})
        if counted := members.kept.get(b"usage"):
            self._usage = _usage(counted) or self._usage

    def _write(self, text: bytes | bytearray, tokens: int = 0) -> None:
        for start in range(0, len(text), SLICE):
            self._silent = 0
            part = self._text.decode(text[start : start + SLICE])
            self._sink.event(pb.ReplyEvent(custom=pb.Custom(kind=KIND, json=part), tokens=tokens))
            tokens = 0


class Whole(_Answer):
    """One JSON object. ``as_event`` makes it one server-sent event, for a server that does not stream."""

    def __init__(self, sink: Sink, model: str, as_event: bool, on_first: Callable[[], None] | None = None) -> None:
        super().__init__(sink, model)
        self._members = Members(self._replaced, _KEPT)
        self._as_event = as_event
        self._held = bytearray(b"data: " if as_event else b"")
        self._has_begun = False

    def _add(self, data: bytes) -> None:
        text = self._members.feed(data)
        self._held += text.translate(_LINE_ENDS) if self._as_event else text
        if self._members.is_complete:
            self._note(self._members)
            self._held += b"\n\n" if self._as_event else b""
            self.is_whole = True
        self._has_begun |= self.is_whole or len(self._held) > HELD
        if self._has_begun:
            self._write(self._held)
            self._held.clear()


class Events(_Answer):
    """Server-sent events with a JSON object each. ``on_first`` is called once, with the first."""

    def __init__(self, sink: Sink, model: str, on_first: Callable[[], None] | None = None) -> None:
        super().__init__(sink, model)
        self._on_first = on_first
        self._events = EventDecoder()
        self._finished = False
        """Whether a choice was: some servers then close without ``[DONE]``."""

    def _add(self, data: bytes) -> None:
        made: list[bytes] = []
        try:
            made.extend(map(self._event, self._payloads(data)))
        finally:
            self._write(b"".join(made), len(made))
        if made and self._on_first is not None:
            on_first, self._on_first = self._on_first, None
            on_first()
        self.is_whole |= not data and self._finished

    def failed(self, error: Exception) -> None:
        self._end(None if self._finished else error)

    def _payloads(self, data: bytes) -> Iterable[bytes]:
        for payload in self._events.feed(data) if data else self._events.end():
            payload = payload.strip()
            if payload == b"[DONE]":
                self.is_whole = True
                return
            if payload:
                yield payload

    def _event(self, payload: bytes) -> bytes:
        if len(payload) > MARKS and sum(map(payload.count, (b'"', b"[", b"{", b"]", b"}"))) > MARKS:
            raise NoObject(f"an event has more than {MARKS:,} quotes and brackets")
        members = Members(self._replaced, _KEPT)
        text = members.feed(payload)
        if not members.is_complete:
            raise NoObject("an event's object is not complete")
        self._note(members)
        self._finished = self._finished or _FINISHED.search(payload) is not None
        return b"data: %b\n\n" % text.translate(_LINE_ENDS)


def _usage(text: bytes) -> RequestUsage | None:
    try:
        counts = msgspec.json.decode(text, type=_Counts)
    except (msgspec.DecodeError, RecursionError):
        return None
    completion = int(counts.completion_tokens or 0)
    return RequestUsage(int(counts.prompt_tokens or (counts.total_tokens or 0) - completion), completion)


def _loads(text: bytes) -> object:
    try:
        return orjson.loads(text)
    except ValueError:
        return None
