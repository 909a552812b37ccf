"""The gateway's end of a lane: drops repeated batches, holds early ones, and reports lost ones. Pure."""

from typing import NamedTuple

from fleet.lane.sender import BATCH_BYTES, IN_FLIGHT
from protos import chat_pb2 as pb

GOES_BACK_AFTER = 6.0
"""Seconds of batches in an earlier epoch, and none in the current one, after which the lane returns to the earlier one.

Longer than workers of the version before repeat the last batches of a lane beside the next one
(:data:`fleet.lane.outbox.LAST_WORDS`), so that those do not count; shorter than RESEND_LAST, so that a forged epoch
stops the lane for no longer than that.
"""

EARLY_BYTES = 2 * BATCH_BYTES
"""Largest batch that is held until those before it arrive; a larger one is sent again."""


class Arrival(NamedTuple):
    """What one batch brought: the events that are now in order.

    ``broken`` means that batches are lost for good, because the worker restarted the lane or forgot them: replies begun
    before cannot be completed. The events belong to the new lane. ``answer`` is false for a batch of an older lane and
    for an invalid one, which get no ack.
    """

    events: list[pb.ReplyEvent]
    broken: bool = False
    answer: bool = True


class LaneReceiver:
    """Puts one worker's batches in order. An ack carries ``epoch`` and ``received``."""

    def __init__(self) -> None:
        self.epoch = 0
        self.received = 0
        self._early: dict[int, pb.ChunkBatch] = {}
        self._earlier_since: float | None = None
        """Since when all batches have been of an earlier epoch."""

    def receive(self, batch: pb.ChunkBatch, now: float) -> Arrival:
        """Process a batch, which may be new, early, repeated or late; ``now`` is in seconds of any monotonic clock."""
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
        """Whether the sender stays in an earlier epoch, so that the current one must have been forged."""
        if self._earlier_since is None:
            self._earlier_since = now
        return now - self._earlier_since >= GOES_BACK_AFTER

    def _in_order(self) -> list[pb.ReplyEvent]:
        events: list[pb.ReplyEvent] = []
        while (batch := self._early.pop(self.received + 1, None)) is not None:
            self.received = batch.number
            events.extend(batch.events)
        return events
