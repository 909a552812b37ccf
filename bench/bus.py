"""Members that load the host and do nothing else: ``python -m bench.bus ROLE HOST LANES CHUNKS``.

A ``worker`` sends batches of CHUNKS events on every lane and keeps as many unacknowledged as a real worker may. A
``gateway`` acknowledges as a real one does, and prints the time and the number of batches received every 0.1 s. Each
member has one id, so all lanes connect the same two, and the field for a lane's epoch holds its number. Only this part
of the benchmark imports the fleet, because batches cannot be seen from outside.
"""

import asyncio
import json
import time

from autogen_core import MessageContext, RoutedAgent, TypeSubscription, message_handler

from fleet.bus import topics
from fleet.bus.runtime import FleetRuntime
from fleet.lane import QUIET
from fleet.process import arguments, loop
from fleet.settings import FleetSettings, HostPort
from protos import chat_pb2 as pb

WINDOW = QUIET + 1
"""Unacknowledged batches on each lane; the gateway acknowledges this many at once."""
WORKER, GATEWAY = "bench-worker", "bench-gateway"
ONLY_OURS = {"skip_class_subscriptions": True, "skip_direct_message_subscription": True}
TEXT = "some forty bytes of a reply to somebody "


class Member(RoutedAgent):
    """Subscribes to the topics of a lane's end. Shortcuts handle the messages."""

    def __init__(self) -> None:
        super().__init__("an end of lanes")

    @message_handler
    async def on_left(self, message: pb.MemberLeft, ctx: MessageContext) -> None:
        """Never called."""


class Workers:
    """The sending ends. Each sends its next batches when the last ones are acknowledged."""

    def __init__(self, bus: FleetRuntime, lanes: int, chunks: int) -> None:
        self._bus = bus
        self._numbers = dict.fromkeys(range(1, lanes + 1), 0)
        self._chunks = [pb.ReplyEvent(request_id=f"{n:032x}", attempt=1, text=TEXT, tokens=8) for n in range(chunks)]
        bus.shortcut(pb.ChunkAck, lambda ack: self._send(ack.epoch))

    def begin(self) -> None:
        for lane in self._numbers:
            self._send(lane)

    def _send(self, lane: int) -> None:
        for _ in range(WINDOW):
            self._numbers[lane] += 1
            batch = pb.ChunkBatch(worker_id=WORKER, epoch=lane, number=self._numbers[lane], events=self._chunks)
            self._bus.publish(batch, topics.chunks(GATEWAY))


class Gateways:
    """The receiving ends."""

    def __init__(self, bus: FleetRuntime) -> None:
        self._bus = bus
        self.received = 0
        """Batches on all lanes."""
        bus.shortcut(pb.ChunkBatch, self._receive)

    def _receive(self, batch: pb.ChunkBatch) -> None:
        self.received += 1
        if batch.number % WINDOW == 0:
            ack = pb.ChunkAck(gateway_id=GATEWAY, epoch=batch.epoch, received=batch.number)
            self._bus.publish(ack, topics.chat(batch.worker_id))


async def main(role: str, host: str, lanes: int, chunks: int) -> None:
    address, _, port = host.rpartition(":")
    joined = asyncio.Event()
    runtime = FleetRuntime(FleetSettings(host=HostPort(address, int(port))), lambda up: joined.set() if up else None)
    gateways = Gateways(runtime) if role == "gateway" else None
    workers = Workers(runtime, lanes, chunks) if role == "worker" else None
    if workers is not None:
        agent_type, topic = topics.agent_type(topics.WORKER, WORKER), topics.chat(WORKER)
    else:
        agent_type, topic = topics.agent_type(topics.GATEWAY, GATEWAY), topics.chunks(GATEWAY)
    await Member.register(runtime, agent_type, Member, **ONLY_OURS)
    await runtime.add_subscription(TypeSubscription(topic.type, agent_type))
    await runtime.start()
    await joined.wait()
    if workers is not None:
        workers.begin()
    while True:
        if gateways is not None:
            print(json.dumps([time.monotonic(), gateways.received]), flush=True)
        await asyncio.sleep(0.1)


if __name__ == "__main__":
    role, host, lanes, chunks = arguments.read("bench.bus", "Load a host.", "ROLE", "HOST", "LANES", "CHUNKS")
    loop.run(main(role, host, int(lanes), int(chunks)))
