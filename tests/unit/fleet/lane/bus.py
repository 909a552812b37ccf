"""A worker's outbox and a gateway's inbox on a real event loop, with a bus between them that the test can cut."""

import asyncio
import time

from fleet.lane import Inbox, Outbox
from protos import chat_pb2 as pb
from tests.harness.virtual import VirtualLoop

INTERVAL = 0.001


class Bus:
    """One worker's outbox and one gateway's inbox; ``up`` says whether anything gets through."""

    def __init__(self, interval: float = INTERVAL) -> None:
        clock = (
            asyncio.get_running_loop().time if isinstance(asyncio.get_running_loop(), VirtualLoop) else time.monotonic
        )
        self.up = True
        self.batches = 0
        self.acks: list[pb.ChunkAck] = []
        self.text = ""
        self.arguments = ""
        self.kinds: list[str | None] = []
        self.broken = 0
        self.ended = asyncio.Event()
        self.outbox = Outbox("w", self.to_gateway, interval, clock)
        self.inbox = Inbox("g", self.to_worker, clock)
        self.outbox.link_up()

    def to_gateway(self, gateway_id: str, batch: pb.ChunkBatch) -> None:
        assert gateway_id == "g"
        if not self.up:
            return
        self.batches += 1
        chunks, broken = self.inbox.receive(pb.ChunkBatch.FromString(batch.SerializeToString()))
        self.broken += broken
        for chunk in chunks:
            self.text += chunk.text
            self.arguments += chunk.tool_call.arguments
            self.kinds.append(chunk.WhichOneof("event"))
            if chunk.HasField("done"):
                self.ended.set()

    def to_worker(self, ack: pb.ChunkAck, worker_id: str) -> None:
        assert worker_id == "w"
        if self.up:
            self.acks.append(ack)
            self.outbox.acknowledge(ack)

    def cut(self) -> None:
        self.up = False
        self.outbox.link_down()

    def mend(self) -> None:
        self.up = True
        self.outbox.link_up()
        self.inbox.link_up()
