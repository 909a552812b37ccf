"""One reply inside a lane: what was written and is not sent yet, and its credit.

Credit bounds the bytes of a reply that are on their way to a client. A writer may exceed it; the excess
stays here until the client has consumed enough.
"""

from collections import deque
from collections.abc import Iterator
from typing import Literal

from protos import chat_pb2 as pb

CREDIT = 64 * 1024
"""Bytes of one reply that may be sent and not yet consumed by its client."""

SLICE = CREDIT // 4
"""Characters of one delta that are sent at a time. A long delta is cut, so that it obeys the credit too."""

EVENT_BYTES = 64
"""Cost of an event that is not text, beside its content: empty events are not free either."""

LARGEST_EVENT = 2 * CREDIT
"""Largest cost of an event that cannot be cut. A gateway ends a reply that is four credits ahead."""

TextKind = Literal["text", "reasoning"]

TERMINAL = frozenset({"done", "error", "cancelled"})
"""Kinds of events that end a reply."""

_FREE = TERMINAL | {"accepted", None}


class EventTooLarge(ValueError):
    """An event costs more than :data:`LARGEST_EVENT`."""


def text_bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def payload_bytes(event: pb.ReplyEvent) -> int:
    """Cost of an event in credit, in bytes. Both ends of a lane compute the same. Terminal events are free."""
    match event.WhichOneof("event"):
        case "text":
            return text_bytes(event.text)
        case "reasoning":
            return text_bytes(event.reasoning)
        case "tool_call":
            call = event.tool_call
            return EVENT_BYTES + text_bytes(call.id) + text_bytes(call.name) + text_bytes(call.arguments)
        case "logprobs":
            return EVENT_BYTES + text_bytes(event.logprobs)
        case kind if kind in _FREE:
            return 0
        case kind:
            size: int = getattr(event, str(kind)).ByteSize()
            return EVENT_BYTES + size


class _Delta:
    """Neighbouring text of one kind and source that is not sent yet."""

    __slots__ = ("kind", "pieces", "size", "source", "tokens")

    def __init__(self, kind: TextKind, source: str) -> None:
        self.kind = kind
        self.source = source
        self.pieces: list[str] = []
        self.tokens = 0
        self.size = 0

    def add(self, text: str, tokens: int) -> int:
        """Append text; return its cost."""
        if len(text) <= SLICE:
            self.pieces.append(text)
        else:
            self.pieces.extend(text[start : start + SLICE] for start in range(0, len(text), SLICE))
        self.tokens += tokens
        size = text_bytes(text)
        self.size += size
        return size

    def cut(self, credit: int) -> "_Delta":
        """Remove pieces from the front until ``credit`` is used up, and return them; at least one."""
        taken = _Delta(self.kind, self.source)
        taken.tokens, self.tokens = self.tokens, 0
        count = 0
        while count < len(self.pieces) and taken.size < credit:
            taken.size += text_bytes(self.pieces[count])
            count += 1
        taken.pieces = self.pieces[:count]
        del self.pieces[:count]
        self.size -= taken.size
        return taken


class OutgoingReply:
    """One attempt's reply: pending events, and how many bytes were written, sent and consumed."""

    def __init__(self, request_id: str, attempt: int) -> None:
        self.request_id = request_id
        self.attempt = attempt
        self.started = False
        self.finished = False
        self._written = 0
        self._sent = 0
        self._consumed = 0
        self._position = 0
        self._pending: deque[pb.ReplyEvent | _Delta] = deque()

    @property
    def writable(self) -> bool:
        """Whether all that was written is within the credit."""
        return self._written - self._consumed < CREDIT

    @property
    def credit(self) -> int:
        """Bytes that may still be sent; zero or less means none."""
        return CREDIT - (self._sent - self._consumed)

    @property
    def pending(self) -> int:
        """Bytes that were written and are not sent."""
        return self._written - self._sent

    @property
    def is_ready(self) -> bool:
        """Whether something is pending that may be sent."""
        if not self._pending:
            return False
        return self.credit > 0 or _is_free(self._pending[0])

    @property
    def is_sent(self) -> bool:
        return self.finished and not self._pending

    def write(self, kind: TextKind, text: str, tokens: int, source: str = "") -> None:
        """Append text; it joins pending text of the same kind and source."""
        pending = self._pending
        last = pending[-1] if pending else None
        if not isinstance(last, _Delta) or last.kind != kind or last.source != source:
            last = _Delta(kind, source)
            pending.append(last)
        self._written += last.add(text, tokens)

    def put(self, event: pb.ReplyEvent) -> None:
        """Append any other event. Raises :class:`EventTooLarge`. A cancelled reply drops what is pending."""
        kind = event.WhichOneof("event")
        size = payload_bytes(event)
        if size > LARGEST_EVENT:
            raise EventTooLarge(f"an event of {size:,} bytes is larger than {LARGEST_EVENT:,}")
        if kind in TERMINAL:
            self.finished = True
        if kind == "cancelled":
            self._pending.clear()
            self._written = self._sent
        event.request_id = self.request_id
        event.attempt = self.attempt
        self._pending.append(event)
        self._written += size

    def consume(self, total: int) -> None:
        """The client has consumed ``total`` bytes of this reply since its start."""
        self._consumed = max(self._consumed, min(total, self._sent))

    def move(self, batch: pb.ChunkBatch, room: int) -> int:
        """Move pending events into a batch while ``room`` bytes and credit are left; return the bytes used."""
        used = 0
        pending = self._pending
        while pending and used < room:
            item = pending[0]
            credit = self.credit
            if isinstance(item, _Delta):
                if credit <= 0:
                    break
                if item.size > credit:
                    item = item.cut(credit)
                else:
                    pending.popleft()
                self._position += 1
                event = batch.events.add(
                    request_id=self.request_id, attempt=self.attempt, tokens=item.tokens, position=self._position
                )
                setattr(event, item.kind, "".join(item.pieces))
                if item.source:
                    event.source = item.source
                self._sent += item.size
                used += item.size + EVENT_BYTES
            else:
                if credit <= 0 and not _is_free(item):
                    break
                pending.popleft()
                if item.WhichOneof("event") != "accepted":
                    self._position += 1
                    item.position = self._position
                batch.events.append(item)
                self._sent += payload_bytes(item)
                used += item.ByteSize() + EVENT_BYTES  # errors cost no credit, but they use room
        return used


def _is_free(item: pb.ReplyEvent | _Delta) -> bool:
    return not isinstance(item, _Delta) and item.WhichOneof("event") in _FREE


def slices(event: pb.ReplyEvent) -> Iterator[pb.ReplyEvent]:
    """The event, or, for a tool call with long arguments, several; the first has everything but their rest."""
    arguments = event.tool_call.arguments
    if len(arguments) > SLICE:
        event.tool_call.arguments = arguments[:SLICE]
    yield event
    for start in range(SLICE, len(arguments), SLICE):
        more = pb.ToolCall(index=event.tool_call.index, arguments=arguments[start : start + SLICE])
        yield pb.ReplyEvent(tool_call=more)
