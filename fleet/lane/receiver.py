"""The gateway's end of a lane: drops what it has, holds what came early, and knows when something can never come."""

from typing import NamedTuple

from fleet.lane.sender import BATCH_BYTES, IN_FLIGHT
from protos import chat_pb2 as pb

GOES_BACK_AFTER = 6.0
"""Seconds for which a sender must go on with an earlier epoch, and say nothing in the current one, to be believed.

Longer than a lane that was given up repeats its last batches (:data:`fleet.lane.outbox.LAST_WORDS`), and shorter than
RESEND_LAST: a nonsense epoch stops the lane for no longer than that.
"""

EARLY_BYTES = 2 * BATCH_BYTES
"""Largest batch that is held until those before it have come; a larger one comes again."""


class Arrival(NamedTuple):
    """What one message brought: chunks in order, and whether earlier chunks of this lane are lost for good.

    ``broken`` is true when the worker began the lane anew (it gave this gateway up, or it is another process) or has
    forgotten batches that never arrived: replies begun before cannot be completed. The chunks are of the new lane.
    ``answer`` is false for a message of an older lane and for nonsense, which get no ack.
    """

    events: list[pb.ReplyEvent]
    broken: bool = False
    answer: bool = True


class LaneReceiver:
    """Puts one worker's batches in order. ``epoch`` and ``received`` are what an ack says."""

    def __init__(self) -> None:
        self.epoch = 0
        self.received = 0
        self._early: dict[int, pb.ChunkBatch] = {}
        self._earlier_since: float | None = None
        """Since when only batches of an earlier epoch have come."""

    def receive(self, batch: pb.ChunkBatch, now: float) -> Arrival:
        """Take one batch, new, early, repeated or late; ``now`` is seconds of any monotonic clock."""
        if 0 < batch.number < batch.base or (batch.epoch < self.epoch and not self._goes_back(now)):
            return Arrival([], answer=False)
        self._earlier_since = None
        broken = False
        if batch.epoch != self.epoch:
            broken = self.epoch != 0
            self.epoch = batch.epoch
            self.received = max(0, batch.base - 1)
            self._early.clear()
        elif batch.base > self.received + 1:
            broken = True
            self.received = batch.base - 1
            self._early = {number: early for number, early in self._early.items() if number > self.received}
        ahead = batch.number - self.received
        if ahead == 1 or (1 < ahead <= IN_FLIGHT and batch.ByteSize() <= EARLY_BYTES):
            self._early[batch.number] = batch
        return Arrival(self._in_order(), broken)

    def _goes_back(self, now: float) -> bool:
        """Whether the sender goes on with an earlier epoch, so that the current one must have been nonsense."""
        if self._earlier_since is None:
            self._earlier_since = now
        return now - self._earlier_since >= GOES_BACK_AFTER

    def _in_order(self) -> list[pb.ReplyEvent]:
        events: list[pb.ReplyEvent] = []
        while (batch := self._early.pop(self.received + 1, None)) is not None:
            self.received = batch.number
            events.extend(batch.events)
        return events
