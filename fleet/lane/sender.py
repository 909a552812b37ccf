"""The worker's end of a lane: what is sent when, and what is kept until it is acknowledged.

Pure: times are seconds of any monotonic clock, passed in as arguments.
"""

from collections import deque

from fleet.lane.reply import OutgoingReply, TextKind
from fleet.lane.slots import slot, slot_begins
from protos import chat_pb2 as pb

WINDOW = 2
"""Batches that may wait for an ack that they requested. Two hide one round trip; more would only lengthen queues."""

QUIET = 7
"""Batches in a row that request no ack, while none is overdue: on a quick bus every eighth batch requests one."""

IN_FLIGHT = QUIET + WINDOW
"""Batches that may be unacknowledged."""

BATCH_BYTES = 512 * 1024
"""Payload after which a batch is full: far below the host's limit, far above what one flush interval brings."""

RESEND_FIRST = 1.0
RESEND_LAST = 8.0
"""Seconds until an unanswered batch or probe is sent again; doubled from first to last."""

GRACE = 0.002
"""Seconds after the start of a slot at which the lane flushes: by then the models' streams have been read."""


class _Question:
    """An answer that is wanted, and when to ask for it again."""

    def __init__(self) -> None:
        self.since: float | None = None
        """When it was first asked for; None while no answer is missing."""
        self._pause = RESEND_FIRST
        self._again_at = float("inf")

    @property
    def again_at(self) -> float:
        """When to ask again; infinity for never."""
        return float("inf") if self.since is None else self._again_at

    def ask(self, now: float) -> None:
        """Want an answer, if none is wanted already."""
        if self.since is None:
            self.since = now
            self._again_at = now + self._pause

    def ask_now(self, now: float) -> None:
        """Ask again at once; the silence counts from now."""
        self._pause = RESEND_FIRST
        self.since = self._again_at = now

    def asked_again(self, now: float) -> None:
        """Double the pause until the next time."""
        self._again_at = now + self._pause
        self._pause = min(self._pause * 2, RESEND_LAST)

    def heard(self, now: float) -> None:
        """The receiver is alive: its silence counts from now. What is missing is still due."""
        if self.since is not None:
            self.since = now

    def answered(self) -> None:
        self.since = None
        self._pause = RESEND_FIRST


class _Blocked(_Question):
    """The replies whose writers wait for credit. A lost report of credit is repeated only in the answer to a probe."""

    def __init__(self) -> None:
        super().__init__()
        self.replies: set[OutgoingReply] = set()
        self.wants_all = False
        """Whether the receiver is asked for all replies that it waits for, though none waits for credit."""
        self._last_batch: int | None = None
        """Number of the last batch before a probe that is not answered."""

    def probed(self, last_batch: int, now: float) -> None:
        self._last_batch = last_batch
        self.asked_again(now)

    def asked_for(self, ack: pb.ChunkAck) -> bool:
        """Whether a complete ack answers a probe, and nothing before the probe is lost."""
        is_answer = ack.asked_at > 0 or not ack.HasField("asked_at")  # receivers of earlier versions do not say
        return is_answer and self._last_batch is not None and ack.received >= self._last_batch

    def note(self, ack: pb.ChunkAck, now: float) -> None:
        self.heard(now)
        if ack.complete:
            self._last_batch, self.wants_all = None, False
        if ack.complete or not self._waits:
            self.answered()
        if self._waits:
            self.ask(now)

    @property
    def _waits(self) -> bool:
        return self.wants_all or bool(self.replies)


class LaneSender:
    """Packs many replies into numbered batches, at most :data:`IN_FLIGHT` of them unacknowledged.

    A batch goes out at once when a reply's first event waits, else once per slot of ``flush_interval`` seconds. Acks
    pace it: when a requested ack has not arrived by the next flush, every batch requests one, and with :data:`WINDOW`
    of them missing the batches grow instead of the queue. Call :meth:`due` whenever :meth:`wake_at` says.

    It has 14 attributes because a lane's state is one.
    """

    def __init__(self, worker_id: str, epoch: int, flush_interval: float) -> None:
        self.worker_id = worker_id
        self.epoch = epoch
        self._flush_interval = flush_interval
        self._replies: dict[tuple[str, int], OutgoingReply] = {}
        self._ready: dict[OutgoingReply, None] = {}
        """Replies with events that may be sent, in the order in which they became so."""
        self._blocked = _Blocked()
        self._unacked: deque[pb.ChunkBatch] = deque()
        self._asking: deque[int] = deque()
        """Numbers of the batches that request an ack."""
        self._number = 0
        self._flushed_in: int | None = None
        """Slot of the last batch; None when another may follow at once."""
        self._question = _Question()
        self._restarted_at = float("-inf")
        self.sent = 0
        """Batches that were sent, each counted once."""
        self.resent = 0

    def open(self, request_id: str, attempt: int) -> OutgoingReply:
        """Add a reply; it leaves the lane when its terminal event is sent."""
        reply = self._replies[request_id, attempt] = OutgoingReply(request_id, attempt)
        return reply

    def write(self, reply: OutgoingReply, kind: TextKind, text: str, tokens: int = 1, source: str = "") -> bool:
        """Queue text that the model gave as ``tokens`` deltas. True when :meth:`wake_at` may now be sooner."""
        reply.write(kind, text, tokens, source)
        return self._queued(reply, first=not reply.started)

    def put(self, reply: OutgoingReply, event: pb.ReplyEvent) -> bool:
        """Queue any other event. Raises :class:`EventTooLarge`. True when :meth:`wake_at` may now be sooner."""
        reply.put(event)
        if reply.finished:
            self._blocked.replies.discard(reply)
        return self._queued(reply, first=not reply.started and not event.HasField("accepted"))

    def _queued(self, reply: OutgoingReply, *, first: bool) -> bool:
        if not reply.is_ready:
            return False
        sooner = first or not self._ready
        if first:
            reply.started = True
            self._flushed_in = None
        self._ready[reply] = None
        return sooner

    def block(self, reply: OutgoingReply, now: float) -> None:
        """The writer of ``reply`` waits for credit. The lane asks until it comes, in case an ack was lost."""
        if not reply.finished:
            self._blocked.replies.add(reply)
            self._blocked.ask(now)

    def acknowledge(self, ack: pb.ChunkAck, now: float) -> list[OutgoingReply]:
        """Forget what arrived; return the blocked replies that are writable again."""
        if ack.epoch != self.epoch:
            return []
        if ack.received > self._number:
            self._restart(now)
            return []
        before = len(self._unacked)
        while self._unacked and self._unacked[0].number <= ack.received:
            self._unacked.popleft()
        while self._asking and self._asking[0] <= ack.received:
            self._asking.popleft()
        freed = self._add_credits(ack)
        self._note_answer(ack, progress=len(self._unacked) < before, now=now)
        return freed

    def _note_answer(self, ack: pb.ChunkAck, *, progress: bool, now: float) -> None:
        if self._unacked and ack.complete and not self._blocked.asked_for(ack):
            self.relinked(now)  # the receiver was away, and what was sent meanwhile is lost
        elif self._unacked and not progress:
            self._question.heard(now)
        else:
            self._question.answered()
            if self._unacked:
                self._question.ask(now)
        self._blocked.note(ack, now)

    def _add_credits(self, ack: pb.ChunkAck) -> list[OutgoingReply]:
        freed = []
        for credit in ack.credits:
            reply = self._replies.get((credit.request_id, credit.attempt))
            if reply is None:
                continue
            reply.consume(credit.consumed)
            if reply.is_ready:
                self._ready[reply] = None
            if reply in self._blocked.replies and reply.writable:
                self._blocked.replies.discard(reply)
                freed.append(reply)
        return freed

    def _restart(self, now: float) -> None:
        """Begin a later epoch: the receiver acknowledged what was never sent, and would drop what follows as repeated.

        It then ends the replies it had begun to receive, as after any loss, and the lane goes on.
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
        """The link is back: send everything unacknowledged again, or a probe, at once."""
        self._question.ask_now(now)
        self._blocked.heard(now)  # nobody could answer meanwhile

    def due(self, now: float) -> list[pb.ChunkBatch]:
        """The batches to send now; repeated ones first."""
        batches: list[pb.ChunkBatch] = []
        if now >= self._question.again_at:
            batches.extend(self._unacked or [self._probe(now)])
            self.resent += len(self._unacked)
            self._question.asked_again(now)
        if now >= self._blocked.again_at:
            batches.append(self._probe(now))
            self._blocked.probed(self._number, now)
        for batch in batches:
            batch.base = self._base
            batch.quiet = False
        while self._ready and len(self._asking) < WINDOW and self._has_slot(now):
            batches.append(self._next_batch(now))
            self._question.ask(now)
        return batches

    def wake_at(self, now: float) -> float:
        """When :meth:`due` has something next, if nothing else happens: ``now`` for at once, infinity for never."""
        again_at = min(self._question.again_at, self._blocked.again_at)
        if not self._ready or len(self._asking) >= WINDOW:
            return again_at
        if self._has_slot(now):
            return now
        assert self._flushed_in is not None
        return min(again_at, slot_begins(self._flushed_in + 1, self._flush_interval) + GRACE)

    def silence(self, now: float) -> float:
        """Seconds since the receiver was first asked for an answer that is still missing; 0 when none is."""
        asked = [question.since for question in (self._question, self._blocked) if question.since is not None]
        return max(0.0, now - min(asked, default=now))

    def ask(self, now: float) -> None:
        """Want an answer. Until it comes, the unacknowledged batches or a probe are sent again and again."""
        self._question.ask(now)

    def ask_for_all(self, now: float) -> None:
        """Ask which replies the receiver waits for, at once and until it says so."""
        self._blocked.wants_all = True
        self._blocked.ask_now(now)

    @property
    def idle(self) -> bool:
        """Whether all that may be sent has been acknowledged."""
        return not self._ready and not self._unacked

    @property
    def replies(self) -> list[OutgoingReply]:
        """The replies whose terminal event is not sent."""
        return list(self._replies.values())

    @property
    def unacknowledged(self) -> int:
        """Batches."""
        return len(self._unacked)

    @property
    def blocked(self) -> int:
        """Replies whose writers wait for credit."""
        return len(self._blocked.replies)

    def held(self) -> int:
        """Bytes that are not acknowledged, or not sent."""
        sent = sum(batch.ByteSize() for batch in self._unacked)
        return sent + sum(reply.pending for reply in self._replies.values())

    @property
    def _base(self) -> int:
        return self._unacked[0].number if self._unacked else self._number + 1

    def _has_slot(self, now: float) -> bool:
        if self._flushed_in is None or not self._flush_interval:
            return True
        return slot(now, self._flush_interval) > self._flushed_in

    def _probe(self, now: float) -> pb.ChunkBatch:
        return pb.ChunkBatch(worker_id=self.worker_id, epoch=self.epoch, number=0, asked_at=now)

    def _next_batch(self, now: float) -> pb.ChunkBatch:
        self._number += 1
        batch = pb.ChunkBatch(worker_id=self.worker_id, epoch=self.epoch, number=self._number)
        size = 0
        while self._ready and size < BATCH_BYTES:
            reply = next(iter(self._ready))
            size += reply.move(batch, BATCH_BYTES - size)
            if not reply.is_ready:
                del self._ready[reply]
                if reply.is_sent:
                    self._replies.pop((reply.request_id, reply.attempt), None)
        batch.quiet = not self._asking and len(self._unacked) < QUIET
        if not batch.quiet:
            self._asking.append(batch.number)
        self._unacked.append(batch)
        self.sent += 1
        batch.base = self._base
        self._flushed_in = None if self._ready or not self._flush_interval else slot(now, self._flush_interval)
        return batch
