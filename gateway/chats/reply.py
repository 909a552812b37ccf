"""A reply between the lane and its client: passed on while the client's connection is writable, buffered while not.

What is buffered is bounded by the lane's credit: the worker pauses when its client is 64 KiB behind.
"""

import asyncio
import sys
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import ClassVar

import orjson

from fleet.lane import CREDIT, payload_bytes, text_bytes
from gateway.chats.attempt import Attempt
from gateway.errors import GatewayError, WorkerLost
from protos import chat_pb2 as pb

LIMIT = 4 * CREDIT
"""Bytes that may be buffered: a worker that sends more ignores its credit."""

STEP = 16
"""Tokens between two calls of a meter, which costs more than counting."""

DELTAS = frozenset({"text", "reasoning"})

Write = Callable[[pb.ReplyEvent], None]


@dataclass(frozen=True)
class Completed:
    code: ClassVar = "ok"
    is_failure: ClassVar = False
    finish_reason: str
    usage: pb.Usage = field(default_factory=pb.Usage)


End = Completed | GatewayError


@dataclass(slots=True)
class _Delta:
    kind: str
    source: str
    text: bytearray


class Buffer:
    """Events in order; neighbouring deltas of one kind and source come out as one event."""

    def __init__(self) -> None:
        self._items: deque[pb.ReplyEvent | _Delta] = deque()

    def __bool__(self) -> bool:
        return bool(self._items)

    def append(self, event: pb.ReplyEvent) -> None:
        """Add a copy: the event itself would keep the memory of the whole batch that it came in."""
        kind = event.WhichOneof("event")
        if kind not in DELTAS or event.extra:
            copy = pb.ReplyEvent()
            copy.CopyFrom(event)
            self._items.append(copy)
            return
        last = self._items[-1] if self._items else None
        if not isinstance(last, _Delta) or (last.kind, last.source) != (kind, event.source):
            last = _Delta(kind, event.source, bytearray())
            self._items.append(last)
        # As bytes, which is what credit counts: a list of strings takes up to thirty times as much memory.
        last.text += getattr(event, kind).encode()

    def __iter__(self) -> Iterator[pb.ReplyEvent]:
        """Remove all events, one after the other."""
        while self._items:
            yield self.popleft()

    def popleft(self) -> pb.ReplyEvent:
        item = self._items.popleft()
        if isinstance(item, _Delta):
            return pb.ReplyEvent(source=item.source, **{item.kind: item.text.decode()})  # type: ignore[arg-type]
        return item


class Reply:
    """Written by the fan-in, which never waits, and read by one response.

    ``tokens`` are the model's so far, ``unread`` the bytes that are buffered. What was passed on to the response is
    reported as credit to ``attempt``.
    """

    def __init__(self) -> None:
        self.end: End | None = None
        self.attempt: Attempt | None = None
        self.accepted = False
        self.started = False
        self.tokens = 0
        self.unread = 0
        self._buffer = Buffer()
        self._write: Write | None = None
        self._failure: Exception | None = None
        self._changed = asyncio.Event()
        self._meter: Callable[[int], None] = lambda _: None
        self._meter_at = sys.maxsize

    @property
    def is_buffered(self) -> bool:
        return bool(self._buffer)

    def meter(self, report: Callable[[int], None]) -> None:
        """Report ``tokens`` at the first of them, and after every :data:`STEP` more."""
        self._meter, self._meter_at = report, 1

    # ------------------------------------------------------------ the fan-in's side

    def push(self, event: pb.ReplyEvent, kind: str) -> None:
        """Add an event that is neither the acceptance nor an end; after the end this does nothing.

        Raises :class:`WorkerLost` for a worker that ignores its credit or sends log probabilities that are no list.
        """
        if self.end is not None:
            return
        size = text_bytes(getattr(event, kind)) if kind in DELTAS else payload_bytes(event)
        if self.unread + size > LIMIT:
            raise WorkerLost("credit_ignored", "the worker sent more than it may")
        if kind == "logprobs":
            _check_list(event.logprobs)
        self.started = True
        self.tokens += event.tokens if kind != "tool_call" else 1  # workers do not count the parts of tool calls
        if self.tokens >= self._meter_at:
            self._meter_at = self.tokens + STEP
            self._meter(self.tokens)
        if not size and kind in DELTAS:
            return  # it would cost no credit
        if self._write is not None:
            self._pass_on(event, size)
        else:
            self._buffer.append(event)
            self.unread += size
            self._changed.set()

    def finish(self, end: End) -> None:
        """Decide how it ends; only the first call counts."""
        if self.end is None:
            self.end = end
            self._changed.set()

    # ------------------------------------------------------------ the response's side

    def resume(self, write: Write) -> None:
        """Pass what is buffered to ``write``, and each further event as soon as it comes, until :meth:`pause`.

        An exception that ``write`` raises pauses the reply, and is raised here or by :meth:`changed`.
        """
        self._write = write
        while self._buffer and self._write is not None:
            event = self._buffer.popleft()
            size = payload_bytes(event)
            self.unread -= size
            self._pass_on(event, size)
            if self.attempt is not None:
                self.attempt.hear()  # the silence of a worker that waited for credit was its client's
        self._check()

    def pause(self) -> None:
        """Buffer what comes; may be called by the writer."""
        self._write = None
        self._changed.set()

    async def changed(self) -> None:
        """Wait for the end, a pause or, while paused, an event. Raises what the writer raised."""
        await self._changed.wait()
        self._changed.clear()
        self._check()

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _pass_on(self, event: pb.ReplyEvent, size: int) -> None:
        assert self._write is not None
        try:
            self._write(event)
        except WorkerLost as error:  # the writer could not read what it was given
            self.finish(error)
        except Exception as error:
            self._failure = error
            self.pause()
        if self.attempt is not None:
            self.attempt.incoming.consumed(size)


def _check_list(text: str) -> None:
    try:
        is_list = isinstance(orjson.loads(text), list)
    except ValueError:
        is_list = False
    if not is_list:
        raise WorkerLost("chunk_invalid", "the worker sent log probabilities that are no JSON list")
