"""The worker's lanes on the event loop: one timer a lane, no task, and writers that wait for credit."""

import asyncio
import time
from collections.abc import Callable, Iterator

from fleet.lane.sender import CREDIT, LaneSender, OutgoingStream, TextKind, payload_bytes
from fleet.lane.slots import delay
from protos import chat_pb2 as pb

Publish = Callable[[str, pb.ChunkBatch], None]
"""Sends a batch to a gateway id, or loses it: the lane sends again."""

SLICE = CREDIT // 4
"""Characters of one model chunk that are queued at a time, so that a giant chunk obeys the credit too."""

LARGEST_EVENT = 2 * CREDIT
"""Bytes of the largest event that is queued whole: gateways take a reply for broken that is four credits ahead."""

LAST_WORDS = 5.0
"""Seconds for which a lane to a gateway that was given up repeats how its chats ended, should it live after all."""


class OutgoingReply:
    """What a chat writes its reply to. Exactly one of its finishing events ends it; later writes are refused."""

    def __init__(self, lane: "_Lane", stream: OutgoingStream) -> None:
        self._lane = lane
        self._stream = stream

    @property
    def finished(self) -> bool:
        """Whether the terminal event has been written."""
        return self._stream.finished

    def accept(self) -> None:
        """Say that the chat runs here."""
        self._lane.put(self._stream, pb.ReplyEvent(accepted=pb.Accepted()))

    async def text(self, text: str, kind: TextKind = "text", tokens: int = 1) -> None:
        """Queue ``text``, so many pieces of the model's; return when more may be written.

        That waits while the client is behind by the credit.
        """
        for start in range(0, len(text), SLICE):
            self._lane.write(self._stream, kind, text[start : start + SLICE], tokens if start == 0 else 0)
            await self._lane.credit(self._stream)

    def try_text(self, text: str, tokens: int) -> bool:
        """As :meth:`text` if that would not wait; false, and nothing done, if it might."""
        stream, lane = self._stream, self._lane
        if len(text) > SLICE or stream.credit <= len(text) * 4 or stream.finished:
            return False
        if lane.sender.write(stream, "text", text, tokens):
            lane.schedule()
        return True

    async def event(self, chunk: pb.ReplyEvent) -> None:
        """Queue a part of a tool call, or log probabilities, under the same credit as text.

        Arguments of any length go in slices; a reply with anything else that is too large for the gateway ends here.
        """
        for part in _slices(chunk):
            if payload_bytes(part) > LARGEST_EVENT:
                message = f"the model gave an event that is larger than {LARGEST_EVENT} bytes"
                self.finish(pb.Error(code="model_stream_broken", message=message))
                return
            self._lane.put(self._stream, part)
            await self._lane.credit(self._stream)

    def finish(self, end: pb.Done | pb.Error | pb.Cancelled) -> None:
        """Write the terminal event, unless one was written."""
        if self.finished:
            return
        match end:
            case pb.Done():
                chunk = pb.ReplyEvent(done=end)
            case pb.Error():
                chunk = pb.ReplyEvent(error=end)
            case pb.Cancelled():
                chunk = pb.ReplyEvent(cancelled=end)
        self._lane.put(self._stream, chunk)


def _slices(chunk: pb.ReplyEvent) -> Iterator[pb.ReplyEvent]:
    """An event as one or more with few of a tool call's arguments each; the first has all else."""
    arguments = chunk.tool_call.arguments
    if len(arguments) > SLICE:
        chunk.tool_call.arguments = arguments[:SLICE]
    yield chunk
    for start in range(SLICE, len(arguments), SLICE):
        more = pb.ToolCall(index=chunk.tool_call.index, arguments=arguments[start : start + SLICE])
        yield pb.ReplyEvent(tool_call=more)


class _Lane:
    """One gateway's lane: the sender, its timer, and who waits for credit."""

    def __init__(self, gateway_id: str, sender: LaneSender, outbox: "Outbox") -> None:
        self.gateway_id = gateway_id
        self.sender = sender
        self._outbox = outbox
        self._timer: asyncio.TimerHandle | asyncio.Handle | None = None
        self._timer_at = float("inf")
        self._quiet_at = float("inf")
        self._waiting: dict[OutgoingStream, asyncio.Future[None]] = {}

    def write(self, stream: OutgoingStream, kind: TextKind, text: str, tokens: int) -> None:
        if self.sender.write(stream, kind, text, tokens):
            self.schedule()

    def put(self, stream: OutgoingStream, chunk: pb.ReplyEvent) -> None:
        self.sender.put(stream, chunk)
        self.schedule()

    async def credit(self, stream: OutgoingStream) -> None:
        while stream.credit <= 0 and not stream.finished:
            freed = self._waiting[stream] = asyncio.get_running_loop().create_future()
            self.sender.block(stream, time.monotonic())
            self.schedule()
            try:
                await freed
            finally:
                del self._waiting[stream]

    def acknowledge(self, ack: pb.ChunkAck) -> None:
        for stream in self.sender.acknowledge(ack, time.monotonic()):
            waiting = self._waiting.get(stream)
            if waiting is not None and not waiting.done():
                waiting.set_result(None)
        self.schedule()

    def schedule(self) -> None:
        """Arm the timer for what the sender wants next; an earlier timer stays."""
        if self._outbox.held is not None:
            self._outbox.held[self] = None
            return
        now = time.monotonic()
        at = self.sender.wake_at(now)
        if at == float("inf") or not self._outbox.linked or (self._timer is not None and self._timer_at <= at):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        loop = asyncio.get_running_loop()
        # At the end of this turn of the loop rather than now: what else was read in this turn joins the batch.
        left = delay(at, now)
        self._timer = loop.call_later(left, self._flush) if left > 0 else loop.call_soon(self._flush)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def abandon(self) -> None:
        """Send what is left a few times more, should anybody still listen, and then no more."""
        self._quiet_at = time.monotonic() + LAST_WORDS

    def _flush(self) -> None:
        self._timer = None
        now = time.monotonic()
        if not self._outbox.linked or now > self._quiet_at:
            return
        for batch in self.sender.due(now):
            self._outbox.publish(self.gateway_id, batch)
        self.schedule()

    def flush(self) -> None:
        """Send at once what may go now."""
        self.stop()
        self._flush()


class Outbox:
    """All lanes of one worker. ``publish`` must not block; nothing is published while the link is down."""

    def __init__(self, worker_id: str, publish: Publish, flush_interval: float) -> None:
        self.worker_id = worker_id
        self.publish = publish
        self.linked = False
        self._flush_interval = flush_interval
        self._lanes: dict[str, _Lane] = {}
        self._progress = asyncio.Event()
        self.held: dict[_Lane, None] | None = None
        """The lanes that want to be looked at, between :meth:`hold` and :meth:`release`."""

    def hold(self) -> None:
        """Send nothing before :meth:`release`: much is about to be written."""
        self.held = {}

    def release(self, at_once: bool) -> None:
        """Go on; ``at_once`` when nothing more is about to be written, so that what was can go now."""
        held, self.held = self.held, None
        for lane in held or ():
            if at_once:
                lane.flush()
            else:
                lane.schedule()

    def open(self, gateway_id: str, request_id: str, attempt: int) -> OutgoingReply:
        """Begin a reply to ``gateway_id``; its lane is made on first use."""
        lane = self._lanes.get(gateway_id)
        if lane is None:
            # A later epoch must be larger, also across a forgotten lane: the clock gives that without any memory.
            sender = LaneSender(self.worker_id, time.time_ns(), self._flush_interval)
            lane = self._lanes[gateway_id] = _Lane(gateway_id, sender, self)
        return OutgoingReply(lane, lane.sender.open(request_id, attempt))

    def acknowledge(self, ack: pb.ChunkAck) -> None:
        """Take a gateway's ack; one for a lane that is forgotten is ignored."""
        lane = self._lanes.get(ack.gateway_id)
        if lane is not None:
            lane.acknowledge(ack)
            self.note_progress()

    def link_up(self) -> None:
        """The link to the host is back: every lane sends again what was not acknowledged."""
        self.linked = True
        for lane in self._lanes.values():
            lane.sender.relinked(time.monotonic())
            lane.schedule()

    def link_down(self) -> None:
        """The link to the host is gone: keep everything and wait."""
        self.linked = False
        for lane in self._lanes.values():
            lane.stop()

    def silent_gateways(self, longer_than: float) -> list[str]:
        """Gateways that have left a question unanswered for ``longer_than`` seconds while the link was up."""
        if not self.linked:
            return []
        now = time.monotonic()
        return [gateway_id for gateway_id, lane in self._lanes.items() if lane.sender.silence(now) > longer_than]

    def gateways(self) -> list[str]:
        """The gateways that there are lanes to."""
        return list(self._lanes)

    def has(self, gateway_id: str) -> bool:
        """Whether there is a lane to that gateway."""
        return gateway_id in self._lanes

    def ask(self, gateway_id: str) -> None:
        """Want an answer from a gateway that may be gone; its silence counts from now."""
        lane = self._lanes.get(gateway_id)
        if lane is not None:
            lane.sender.ask(time.monotonic())
            lane.schedule()

    def forget(self, gateway_id: str) -> None:
        """Drop a gateway's lane and all it kept. Its chats must have been ended by the caller."""
        lane = self._lanes.pop(gateway_id, None)
        if lane is not None:
            lane.abandon()
        self.note_progress()

    async def flushed(self) -> None:
        """Return when every lane's chunks have been acknowledged."""
        while not all(lane.sender.idle for lane in self._lanes.values()):
            self._progress.clear()
            await self._progress.wait()

    def note_progress(self) -> None:
        """Wake :meth:`flushed` to look again."""
        self._progress.set()
