"""The gateway's lanes on the event loop: they hand events on, and answer with acks and credit."""

import asyncio
import time
from collections.abc import Callable

from fleet.lane.receiver import LaneReceiver
from fleet.lane.reply import CREDIT
from protos import chat_pb2 as pb

REPORT = CREDIT // 4
"""Bytes that a client consumes between two reports of credit. A short reply needs no report."""

ACK_DELAY = 0.1
"""Seconds within which a batch that requests no ack is acknowledged, together with others."""

Answer = Callable[[pb.ChunkAck, str], None]
"""Sends an ack to a worker id; best effort, since the worker asks again."""


class IncomingReply:
    """How many bytes of one attempt's reply its client has consumed."""

    def __init__(self, lane: "_Lane", request_id: str, attempt: int) -> None:
        self._lane = lane
        self.request_id = request_id
        self.attempt = attempt
        self.total = 0
        self.reported = 0

    def consumed(self, size: int) -> None:
        """The client consumed ``size`` more bytes."""
        self.total += size
        if self.total - self.reported >= REPORT:
            self._lane.report(self)

    def close(self) -> None:
        self._lane.close(self)


class _Lane:
    def __init__(self, worker_id: str, gateway_id: str, answer: Answer) -> None:
        self.receiver = LaneReceiver()
        self._worker_id = worker_id
        self._gateway_id = gateway_id
        self._answer = answer
        self._replies: dict[tuple[str, int], IncomingReply] = {}
        self._due: dict[IncomingReply, None] = {}
        self._asked_at: float | None = None
        """When the worker asked, by its clock, for all replies that are open; None if it did not."""
        self._handle: asyncio.Handle | None = None
        self._later: asyncio.TimerHandle | None = None

    def open(self, request_id: str, attempt: int) -> IncomingReply:
        reply = self._replies[request_id, attempt] = IncomingReply(self, request_id, attempt)
        return reply

    def close(self, reply: IncomingReply) -> None:
        self._replies.pop((reply.request_id, reply.attempt), None)
        self._due.pop(reply, None)

    def report(self, reply: IncomingReply) -> None:
        if (reply.request_id, reply.attempt) in self._replies:
            self._due[reply] = None
            self.schedule()

    def report_all(self, asked_at: float = 0.0) -> None:
        self._asked_at = max(self._asked_at or 0.0, asked_at)
        self.schedule()

    def schedule(self) -> None:
        # One ack covers everything in this turn of the event loop.
        if self._handle is None:
            self._handle = asyncio.get_running_loop().call_soon(self._send)

    def schedule_later(self) -> None:
        if self._handle is None and self._later is None:
            self._later = asyncio.get_running_loop().call_later(ACK_DELAY, self._send)

    def _send(self) -> None:
        self._handle = None
        if self._later is not None:
            self._later.cancel()
            self._later = None
        credits_ = []
        asked_at, self._asked_at = self._asked_at, None
        complete = asked_at is not None
        # The replies that are open now, not those at the request: the worker cancels what a complete ack leaves out.
        for reply in self._replies.values() if complete else self._due:
            reply.reported = reply.total
            credits_.append(pb.Credit(request_id=reply.request_id, attempt=reply.attempt, consumed=reply.total))
        self._due.clear()
        ack = pb.ChunkAck(
            gateway_id=self._gateway_id,
            epoch=self.receiver.epoch,
            received=self.receiver.received,
            credits=credits_,
            complete=complete,
            counts_all=True,
            asked_at=asked_at,
        )
        self._answer(ack, self._worker_id)


class Inbox:
    """All lanes of one gateway; ``answer`` must not block."""

    def __init__(self, gateway_id: str, answer: Answer, clock: Callable[[], float] = time.monotonic) -> None:
        self.gateway_id = gateway_id
        self._clock = clock
        self._answer = answer
        self._lanes: dict[str, _Lane] = {}

    def open(self, worker_id: str, request_id: str, attempt: int) -> IncomingReply:
        """Expect a reply from ``worker_id``."""
        return self._lane(worker_id).open(request_id, attempt)

    def receive(self, batch: pb.ChunkBatch) -> tuple[list[pb.ReplyEvent], bool]:
        """Process a batch; return ``events`` and ``broken`` of :class:`fleet.lane.receiver.Arrival`."""
        lane = self._lane(batch.worker_id)
        arrival = lane.receiver.receive(batch, self._clock())
        if arrival.answer:
            if batch.number == 0:
                lane.report_all(batch.asked_at)
            if batch.quiet and not arrival.broken:
                lane.schedule_later()
            else:
                lane.schedule()
        return arrival.events, arrival.broken

    def link_up(self) -> None:
        """The link to the host is back: report to every worker which replies are open, and their credit."""
        for lane in self._lanes.values():
            lane.report_all()

    def forget(self, worker_id: str) -> None:
        """Drop the lane of a worker that left. The caller must have ended its replies."""
        self._lanes.pop(worker_id, None)

    def _lane(self, worker_id: str) -> _Lane:
        lane = self._lanes.get(worker_id)
        if lane is None:
            lane = self._lanes[worker_id] = _Lane(worker_id, self.gateway_id, self._answer)
        return lane
