"""The gateway's end of a lane: drops what it has, holds what came early, and knows when something can never come."""

from typing import NamedTuple

from fleet.lane.sender import IN_FLIGHT
from protos import chat_pb2 as pb


class Arrival(NamedTuple):
    """What one message brought: chunks in order, and whether earlier chunks of this lane are lost for good.

    ``broken`` is true when the worker began the lane anew (it gave this gateway up, or it is another process) or has
    forgotten batches that never arrived: replies begun before cannot be completed. The chunks are of the new lane.
    ``answer`` is false for a message of an older lane, which gets no ack.
    """

    chunks: list[pb.ChatChunk]
    broken: bool = False
    answer: bool = True


class LaneReceiver:
    """Puts one worker's batches in order. ``epoch`` and ``received`` are what an ack says."""

    def __init__(self) -> None:
        self.epoch = 0
        self.received = 0
        self._early: dict[int, pb.ChunkBatch] = {}

    def receive(self, batch: pb.ChunkBatch) -> Arrival:
        """Take one batch, new, early, repeated or late."""
        if batch.epoch < self.epoch:
            return Arrival([], answer=False)
        broken = False
        if batch.epoch > self.epoch:
            broken = self.epoch != 0
            self.epoch = batch.epoch
            self.received = max(0, batch.base - 1)
            self._early.clear()
        elif batch.base > self.received + 1:
            broken = True
            self.received = batch.base - 1
            self._early = {number: early for number, early in self._early.items() if number > self.received}
        if self.received < batch.number <= self.received + IN_FLIGHT:
            self._early[batch.number] = batch
        return Arrival(self._in_order(), broken)

    def _in_order(self) -> list[pb.ChatChunk]:
        chunks: list[pb.ChatChunk] = []
        while (batch := self._early.pop(self.received + 1, None)) is not None:
            self.received = batch.number
            chunks.extend(batch.chunks)
        return chunks
