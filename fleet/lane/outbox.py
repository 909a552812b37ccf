"""The worker's lanes on the event loop: one timer per lane, no task, and producers that pause without credit."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from fleet.lane.reply import OutgoingReply, TextKind, slices
from fleet.lane.sender import LaneSender
from fleet.lane.slots import delay
from protos import chat_pb2 as pb

Publish = Callable[[str, pb.ChunkBatch], None]
"""Publishes a batch to a gateway id; best effort, since the lane sends again."""

LAST_WORDS = 5.0
"""Seconds for which a lane to a gateway that was given up is kept, and sends, in case the gateway is alive."""


class Producer(Protocol):
    """What writes to a sink, such as a connection. Method names are those of asyncio's transports."""

    def pause_reading(self) -> None:
        """Write no more: the credit is used up."""

    def resume_reading(self) -> None:
        """Write again."""


class Sink:
    """The only way into a reply. Writing never waits; the producer is paused while the credit is used up.

    Exactly one terminal event ends the reply. What is written after it is dropped.
    """

    def __init__(self, lane: "_Lane", reply: OutgoingReply) -> None:
        self._lane = lane
        self._reply = reply
        self._producer: Producer | None = None
        self._ready: asyncio.Future[None] | None = None
        self.on_first: Callable[[], None] | None = None
        """Called once, with the first event of the reply that is not ``accepted`` or terminal."""

    @property
    def finished(self) -> bool:
        return self._reply.finished

    @property
    def writable(self) -> bool:
        return self._reply.writable

    def accept(self) -> None:
        self._put(pb.ReplyEvent(accepted=pb.Accepted()))

    def text(self, text: str, tokens: int = 1, source: str = "") -> None:
        """Write text that the model gave as ``tokens`` deltas. ``source`` speaks; empty is the service itself."""
        self._write("text", text, tokens, source)

    def reasoning(self, text: str, tokens: int = 1, source: str = "") -> None:
        """Write reasoning, as :meth:`text`."""
        self._write("reasoning", text, tokens, source)

    def event(self, event: pb.ReplyEvent) -> None:
        """Write any other event. Long arguments of a tool call are cut. Raises :class:`EventTooLarge`."""
        for part in slices(event):
            self._put(part)

    def finish(self, end: pb.Done | pb.Error | pb.Cancelled) -> None:
        """Write the terminal event, unless one was written. ``Cancelled`` drops what waits for credit.

        Await :meth:`ready` before any other end: the lane keeps a reply whose client does not read, and nothing cancels
        it once its run is over.
        """
        match end:
            case pb.Done():
                self._put(pb.ReplyEvent(done=end))
            case pb.Error():
                self._put(pb.ReplyEvent(error=end))
            case pb.Cancelled():
                self._put(pb.ReplyEvent(cancelled=end))
        self._lane.unblock(self._reply)
        self._wake()

    def attach(self, producer: Producer | None) -> None:
        """Pause and resume ``producer`` from now on; it is paused at once if the credit is used up."""
        self._producer = producer
        if producer is not None and not self.writable and not self.finished:
            producer.pause_reading()

    async def ready(self) -> None:
        """Wait until credit is left, or the reply is finished. For producers that cannot be paused."""
        while not self.writable and not self.finished:
            self._ready = asyncio.get_running_loop().create_future()
            await self._ready

    def resume(self) -> None:
        if self._producer is not None:
            self._producer.resume_reading()
        self._wake()

    def _wake(self) -> None:
        if self._ready is not None and not self._ready.done():
            self._ready.set_result(None)

    def _write(self, kind: TextKind, text: str, tokens: int, source: str) -> None:
        reply, lane = self._reply, self._lane
        if not text or reply.finished:
            return
        if lane.sender.write(reply, kind, text, tokens, source):
            lane.schedule()
            self._note_first()
        if not reply.writable:
            self._pause()

    def _put(self, event: pb.ReplyEvent) -> None:
        reply, lane = self._reply, self._lane
        if reply.finished:
            return
        lane.sender.put(reply, event)
        lane.schedule()
        self._note_first()
        if not reply.writable and not reply.finished:
            self._pause()

    def _note_first(self) -> None:
        if self.on_first is not None and self._reply.started and not self._reply.finished:
            on_first, self.on_first = self.on_first, None
            on_first()

    def _pause(self) -> None:
        self._lane.block(self._reply, self)
        if self._producer is not None:
            self._producer.pause_reading()


class _Lane:
    """The lane to one gateway: its sender, its timer, and the sinks that wait for credit."""

    def __init__(self, gateway_id: str, sender: LaneSender, outbox: "Outbox") -> None:
        self.gateway_id = gateway_id
        self.sender = sender
        self._outbox = outbox
        self._timer: asyncio.TimerHandle | asyncio.Handle | None = None
        self._timer_at = float("inf")
        self._is_over = False
        self._blocked: dict[OutgoingReply, Sink] = {}

    def block(self, reply: OutgoingReply, sink: Sink) -> None:
        self._blocked[reply] = sink
        self.sender.block(reply, self._outbox.clock())
        self.schedule()

    def unblock(self, reply: OutgoingReply) -> None:
        self._blocked.pop(reply, None)

    def acknowledge(self, ack: pb.ChunkAck) -> None:
        for reply in self.sender.acknowledge(ack, self._outbox.clock()):
            if sink := self._blocked.pop(reply, None):
                sink.resume()
        self.schedule()

    def schedule(self) -> None:
        """Arm the timer for the sender's next batch; an earlier timer stays."""
        if self._outbox.held is not None:
            self._outbox.held[self] = None
            return
        now = self._outbox.clock()
        at = self.sender.wake_at(now)
        if at == float("inf") or not self._outbox.linked or (self._timer is not None and self._timer_at <= at):
            return
        self.stop()
        self._timer_at = at
        loop = asyncio.get_running_loop()
        # At the end of this turn of the loop, not now: what else is read in this turn joins the batch.
        left = delay(at, now)
        self._timer = loop.call_later(left, self._wake) if left > 0 else loop.call_soon(self._wake)

    def relinked(self) -> None:
        self.sender.relinked(self._outbox.clock())
        self.schedule()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def end(self) -> None:
        """Send no more, whatever is still written."""
        self._is_over = True
        self.stop()

    def _wake(self) -> None:
        self._timer = None
        self.flush()

    def flush(self) -> None:
        """Send what may go now. A timer that is armed stays: cancelling and arming it in every slot would cost more."""
        now = self._outbox.clock()
        if not self._outbox.linked or self._is_over:
            return
        for batch in self.sender.due(now):
            self._outbox.publish(self.gateway_id, batch)
        self.schedule()


@dataclass(frozen=True)
class LaneCounts:
    """Of all lanes: batches, replies that wait for credit, bytes that are held. ``sent`` and ``resent`` only grow."""

    lanes: int
    unacknowledged: int
    blocked: int
    held: int
    sent: int
    resent: int


class Outbox:
    """All lanes of one worker. ``publish`` must not block; nothing is published while the link is down."""

    def __init__(
        self,
        worker_id: str,
        publish: Publish,
        flush_interval: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.worker_id = worker_id
        self.publish = publish
        self.clock = clock
        self.linked = False
        self._lost_at = clock()
        self._flush_interval = flush_interval
        self._lanes: dict[str, _Lane] = {}
        self._given_up: dict[str, asyncio.TimerHandle] = {}
        """The ends of those lanes whose gateway was given up."""
        self._forgotten = [0, 0]
        """Batches that forgotten lanes sent, and sent again."""
        self._progress = asyncio.Event()
        self.held: dict[_Lane, None] | None = None
        """Lanes to schedule, between :meth:`hold` and :meth:`release`."""

    def hold(self) -> None:
        """Send nothing until :meth:`release`: much is about to be written."""
        self.held = {}

    def release(self, at_once: bool) -> None:
        """Send again; ``at_once`` when nothing more is about to be written, so that no timer is needed."""
        held, self.held = self.held, None
        for lane in held or ():
            (lane.flush if at_once else lane.schedule)()

    def open(self, gateway_id: str, request_id: str, attempt: int) -> Sink:
        """Begin a reply to ``gateway_id``; its lane is made on first use."""
        lane = self._lane(gateway_id)
        return Sink(lane, lane.sender.open(request_id, attempt))

    def _lane(self, gateway_id: str) -> _Lane:
        lane = self._lanes.get(gateway_id)
        if lane is None:
            # A lane's next epoch must be larger, also when the lane was forgotten: the clock needs no memory for that.
            sender = LaneSender(self.worker_id, time.time_ns(), self._flush_interval)
            lane = self._lanes[gateway_id] = _Lane(gateway_id, sender, self)
        elif end := self._given_up.pop(gateway_id, None):
            end.cancel()
            lane.relinked()  # its silence counts from now
        return lane

    def acknowledge(self, ack: pb.ChunkAck) -> None:
        """Process a gateway's ack. One that waits for replies of a forgotten lane is told so: by a later lane."""
        if ack.gateway_id in self._lanes:
            self._lanes[ack.gateway_id].acknowledge(ack)
            self._lane(ack.gateway_id)
            self._progress.set()
        elif ack.credits or not ack.complete:
            self._lane(ack.gateway_id).relinked()

    def link_up(self) -> None:
        """The link to the host is back: send again what was not acknowledged."""
        self.linked = True
        for lane in self._lanes.values():
            lane.relinked()

    def link_down(self) -> None:
        """The link to the host is gone: keep everything and wait."""
        self.linked = False
        self._lost_at = self.clock()
        for lane in self._lanes.values():
            lane.stop()

    @property
    def unlinked_for(self) -> float:
        """Seconds since the link to the host was lost; 0 while there is one."""
        return 0.0 if self.linked else self.clock() - self._lost_at

    def silent_gateways(self, longer_than: float) -> list[str]:
        """Gateways that have not answered for ``longer_than`` seconds while the link was up."""
        now = self.clock()
        return [name for name in self.gateways() if self.linked and self._lanes[name].sender.silence(now) > longer_than]

    def gateways(self) -> list[str]:
        """Those with a lane that were not given up."""
        return [gateway_id for gateway_id in self._lanes if gateway_id not in self._given_up]

    def ask(self, gateway_id: str) -> None:
        """Ask a gateway that may be gone for an answer; its silence counts from now."""
        if lane := self._lanes.get(gateway_id):
            lane.sender.ask(self.clock())
            lane.schedule()

    def ask_for_all(self, gateway_id: str) -> None:
        """Ask a gateway now which replies it waits for, until it says so."""
        if lane := self._lanes.get(gateway_id):
            lane.sender.ask_for_all(self.clock())
            lane.schedule()

    def give_up(self, gateway_id: str) -> None:
        """Forget a gateway, if it is not heard within :data:`LAST_WORDS` seconds. Its runs must have been ended."""
        if gateway_id in self.gateways():
            self._given_up[gateway_id] = asyncio.get_running_loop().call_later(LAST_WORDS, self._forget, gateway_id)
            self._progress.set()

    def _forget(self, gateway_id: str) -> None:
        del self._given_up[gateway_id]
        if not self.linked:  # it could not be heard
            self.give_up(gateway_id)
            return
        lane = self._lanes.pop(gateway_id)
        lane.end()
        self._forgotten[0] += lane.sender.sent
        self._forgotten[1] += lane.sender.resent

    def counts(self) -> LaneCounts:
        senders = [lane.sender for lane in self._lanes.values()]
        return LaneCounts(
            lanes=len(senders),
            unacknowledged=sum(sender.unacknowledged for sender in senders),
            blocked=sum(sender.blocked for sender in senders),
            held=sum(sender.held() for sender in senders),
            sent=self._forgotten[0] + sum(sender.sent for sender in senders),
            resent=self._forgotten[1] + sum(sender.resent for sender in senders),
        )

    async def flushed(self) -> None:
        """Wait until every lane's events have been acknowledged."""
        while not all(self._lanes[name].sender.idle for name in self.gateways()):
            self._progress.clear()
            await self._progress.wait()
