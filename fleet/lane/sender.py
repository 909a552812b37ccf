"""The worker's end of a lane: what is sent when, what is kept for sending again, and how much a reply may send.

Times are seconds of any monotonic clock; every method that needs the time takes it.
"""

from collections import deque
from typing import Literal

from fleet.lane.slots import slot, slot_begins
from protos import chat_pb2 as pb

WINDOW = 2
"""Batches that may wait for the ack they ask for. Two hide one round trip; more would only lengthen queues."""

QUIET = 7
"""Batches in a row that ask for no ack of their own, while none is overdue: on a quick bus every eighth one asks."""

IN_FLIGHT = QUIET + WINDOW
"""Batches that may be unacknowledged in all."""

CREDIT = 64 * 1024
"""Bytes of one reply that may be on their way to a client that has not read them."""

BATCH_BYTES = 512 * 1024
"""Payload after which a batch is full: far below what the host passes on, far above what a flush interval brings."""

EVENT_BYTES = 64
"""What a chunk that is not text costs beside its content, so that empty ones are not free either."""

RESEND_FIRST = 1.0
RESEND_LAST = 8.0
"""Seconds until an unanswered batch or probe is sent again: doubled from first to last."""

GRACE = 0.002
"""Seconds for which what waits for a new slot is held back in it: by then the models' streams have been read."""

TextKind = Literal["text", "reasoning"]


def text_bytes(text: str) -> int:
    """Bytes of ``text`` in UTF-8."""
    return len(text) if text.isascii() else len(text.encode())


def payload_bytes(chunk: pb.ReplyEvent) -> int:
    """What a chunk costs in credit: everything of it that a model can make long. Events that carry no reply are free.

    Both ends of the lane count alike.
    """
    match chunk.WhichOneof("event"):
        case "text":
            return text_bytes(chunk.text)
        case "reasoning":
            return text_bytes(chunk.reasoning)
        case "tool_call":
            call = chunk.tool_call
            return EVENT_BYTES + text_bytes(call.id) + text_bytes(call.name) + text_bytes(call.arguments)
        case "logprobs":
            return EVENT_BYTES + text_bytes(chunk.logprobs)
        case _:
            return 0


def _uncounted(chunk: pb.ReplyEvent) -> int:
    """What a gateway of the version before leaves out of a chunk's cost."""
    match chunk.WhichOneof("event"):
        case "tool_call":
            return EVENT_BYTES + text_bytes(chunk.tool_call.id)
        case "logprobs":
            return EVENT_BYTES
        case _:
            return 0


class _Text:
    """Neighbouring text of one kind that waits for a batch, how many pieces of the model's it is, and its bytes."""

    __slots__ = ("kind", "pieces", "size", "tokens")

    def __init__(self, kind: TextKind) -> None:
        self.kind = kind
        self.pieces: list[str] = []
        self.tokens = 0
        self.size = 0


class OutgoingStream:
    """One attempt's reply inside a lane: its pending chunks, and its credit in bytes."""

    def __init__(self, request_id: str, attempt: int) -> None:
        self.request_id = request_id
        self.attempt = attempt
        self.queued = 0
        self.consumed = 0
        self.uncounted = 0
        """Bytes of ``queued`` that a gateway of the version before never reports."""
        self.started = False
        self.finished = False
        self._pending: list[pb.ReplyEvent | _Text] = []

    @property
    def credit(self) -> int:
        """Bytes that may still be queued; zero or less means wait."""
        return CREDIT - (self.queued - self.consumed)

    def _add_chunk(self, chunk: pb.ReplyEvent) -> None:
        chunk.request_id = self.request_id
        chunk.attempt = self.attempt
        self._pending.append(chunk)
        self.queued += payload_bytes(chunk)
        self.uncounted += _uncounted(chunk)

    def _move(self, batch: pb.ChunkBatch, room: int) -> int:
        """Append what is pending to a batch until ``room`` bytes are used; how many are. What is left stays pending."""
        used = moved = 0
        for item in self._pending:
            if used >= room:
                break
            moved += 1
            if isinstance(item, _Text):
                chunk = batch.events.add(request_id=self.request_id, attempt=self.attempt, tokens=item.tokens)
                setattr(chunk, item.kind, "".join(item.pieces))
                used += item.size + EVENT_BYTES
            else:
                batch.events.append(item)
                used += item.ByteSize() + EVENT_BYTES  # errors cost no credit, but room
        del self._pending[:moved]
        return used


class LaneSender:
    """Turns many replies into numbered batches, at most :data:`IN_FLIGHT` of them unacknowledged.

    A batch goes out at once when a reply's first token waits, else once in a slot of ``flush_interval`` seconds; acks
    pace it, so that a busy receiver makes batches bigger and not queues longer: as soon as one that was asked for has
    not come by the next flush, every batch asks for its own. Call :meth:`due` whenever :meth:`wake_at` says.
    """

    def __init__(self, worker_id: str, epoch: int, flush_interval: float) -> None:
        self.worker_id = worker_id
        self.epoch = epoch
        self._flush_interval = flush_interval
        self._streams: dict[tuple[str, int], OutgoingStream] = {}
        self._ready: dict[OutgoingStream, None] = {}
        self._blocked: set[OutgoingStream] = set()
        self._unacked: deque[pb.ChunkBatch] = deque()
        self._asking: deque[int] = deque()
        """Numbers of those that ask for an ack."""
        self._number = 0
        self._urgent = False
        self._flushed_in: int | None = None
        """The slot of the last batch; None when another may follow at once."""
        self._asked_since: float | None = None
        self._resend_after = RESEND_FIRST
        self._resend_at = float("inf")
        self._restarted_at = float("-inf")

    def open(self, request_id: str, attempt: int) -> OutgoingStream:
        """A new reply on this lane; it leaves the lane when it is finished."""
        stream = OutgoingStream(request_id, attempt)
        self._streams[request_id, attempt] = stream
        return stream

    def write(self, stream: OutgoingStream, kind: TextKind, text: str, tokens: int = 1) -> bool:
        """Queue text, merged with its neighbour of the same kind; ``tokens`` is how many pieces of the model's it is.

        Nothing is refused: the caller minds the credit.

        True when :meth:`wake_at` may now be sooner: not when other text waits for the next flush already.
        """
        sooner = not self._ready
        if not stream.started:
            stream.started = True
            self._urgent = sooner = True
        pending = stream._pending
        last = pending[-1] if pending else None
        if not isinstance(last, _Text) or last.kind != kind:
            last = _Text(kind)
            pending.append(last)
        last.pieces.append(text)
        last.tokens += tokens
        size = text_bytes(text)
        last.size += size
        stream.queued += size
        self._ready[stream] = None
        return sooner

    def put(self, stream: OutgoingStream, chunk: pb.ReplyEvent) -> None:
        """Queue any other event. A terminal one (done, error, cancelled) finishes the stream."""
        if chunk.WhichOneof("event") in ("done", "error", "cancelled"):
            stream.finished = True
            self._streams.pop((stream.request_id, stream.attempt), None)
            self._blocked.discard(stream)
        stream._add_chunk(chunk)
        self._ready[stream] = None

    def block(self, stream: OutgoingStream, now: float) -> None:
        """Say that ``stream`` waits for credit: the lane then asks again and again, in case an ack was lost."""
        if not stream.finished:
            self._blocked.add(stream)
            self.ask(now)

    def acknowledge(self, ack: pb.ChunkAck, now: float) -> list[OutgoingStream]:
        """Take an ack: forget what arrived, and return the blocked streams that may write again."""
        if ack.epoch != self.epoch:
            return []
        if ack.received > self._number:
            self._restart(now)
            return []
        progress = False
        while self._unacked and self._unacked[0].number <= ack.received:
            self._unacked.popleft()
            progress = True
        while self._asking and self._asking[0] <= ack.received:
            self._asking.popleft()
        freed = self._take_credits(ack)
        if self._unacked and ack.complete:
            self.relinked(now)  # the receiver has been away, and what was sent meanwhile is lost
            return freed
        if self._unacked and not progress and self._asked_since is not None:
            self._asked_since = now  # it lives; but what it lacks is still due
            return freed
        self._asked_since = None
        self._resend_after = RESEND_FIRST
        self._resend_at = float("inf")
        if self._unacked or self._blocked:
            self.ask(now)
        return freed

    def _take_credits(self, ack: pb.ChunkAck) -> list[OutgoingStream]:
        freed = []
        for credit in ack.credits:
            stream = self._streams.get((credit.request_id, credit.attempt))
            if stream is None:
                continue
            consumed = credit.consumed if ack.counts_all else credit.consumed + stream.uncounted
            stream.consumed = max(stream.consumed, min(consumed, stream.queued))
            if stream in self._blocked and stream.credit > 0:
                self._blocked.discard(stream)
                freed.append(stream)
        return freed

    def _restart(self, now: float) -> None:
        """Begin a later epoch: the receiver claims what was never sent, and would take what follows for repeated.

        It then ends the replies that it had begun to take, as after any loss, and the lane goes on.
        """
        if now - self._restarted_at < RESEND_FIRST:
            return
        self._restarted_at = now
        self.epoch += 1
        asking = set(self._asking)
        self._asking.clear()
        self._number = 0
        for batch in self._unacked:
            self._number += 1
            if batch.number in asking:
                self._asking.append(self._number)
            batch.number, batch.epoch = self._number, self.epoch
        self.relinked(now)

    def relinked(self, now: float) -> None:
        """The link is back: send everything unacknowledged again, or ask whether the receiver is still there, now."""
        self._resend_after = RESEND_FIRST
        self._asked_since = now
        self._resend_at = now

    def due(self, now: float) -> list[pb.ChunkBatch]:
        """The batches to send now, those sent before first."""
        batches: list[pb.ChunkBatch] = []
        if self._asked_since is not None and now >= self._resend_at:
            batches.extend(self._unacked or [self._probe()])
            self._resend_at = now + self._resend_after
            self._resend_after = min(self._resend_after * 2, RESEND_LAST)
        for batch in batches:
            batch.base = self._base
            batch.quiet = False
        while self._ready and len(self._asking) < WINDOW and self._has_slot(now):
            batches.append(self._next_batch(now))
            self.ask(now)
        return batches

    def wake_at(self, now: float) -> float:
        """When :meth:`due` has something next, if nothing else happens; infinity for never, ``now`` for at once."""
        resend_at = self._resend_at if self._asked_since is not None else float("inf")
        if not self._ready or len(self._asking) >= WINDOW:
            return resend_at
        if self._has_slot(now):
            return now
        assert self._flushed_in is not None
        return min(resend_at, slot_begins(self._flushed_in + 1, self._flush_interval) + GRACE)

    def silence(self, now: float) -> float:
        """Seconds since the receiver was first asked for the answer that is still missing; 0 when none is."""
        return 0.0 if self._asked_since is None else max(0.0, now - self._asked_since)

    @property
    def idle(self) -> bool:
        """Whether everything that was queued has been acknowledged."""
        return not self._ready and not self._unacked

    @property
    def streams(self) -> list[OutgoingStream]:
        """The replies that are not finished."""
        return list(self._streams.values())

    def _has_slot(self, now: float) -> bool:
        """Whether a batch may go now."""
        if self._urgent or self._flushed_in is None or not self._flush_interval:
            return True
        return slot(now, self._flush_interval) > self._flushed_in

    @property
    def _base(self) -> int:
        return self._unacked[0].number if self._unacked else self._number + 1

    def ask(self, now: float) -> None:
        """Want an answer: if none comes, the unacknowledged batches, or a probe, are sent again and again."""
        if self._asked_since is None:
            self._asked_since = now
            self._resend_at = now + self._resend_after

    def _probe(self) -> pb.ChunkBatch:
        return pb.ChunkBatch(worker_id=self.worker_id, epoch=self.epoch, number=0)

    def _next_batch(self, now: float) -> pb.ChunkBatch:
        self._number += 1
        batch = pb.ChunkBatch(worker_id=self.worker_id, epoch=self.epoch, number=self._number)
        size = 0
        while self._ready and size < BATCH_BYTES:
            stream = next(iter(self._ready))
            size += stream._move(batch, BATCH_BYTES - size)
            if not stream._pending:
                del self._ready[stream]
        batch.quiet = not self._asking and len(self._unacked) < QUIET
        if not batch.quiet:
            self._asking.append(batch.number)
        self._unacked.append(batch)
        batch.base = self._base
        self._flushed_in = None if self._ready or not self._flush_interval else slot(now, self._flush_interval)
        self._urgent = False
        return batch
