"""Members that load the host and do nothing else: ``python -m bench.bus ROLE HOST LANES CHUNKS``.

A ``worker`` sends batches of so many chunks on every lane, two of them unacknowledged at the most, as real workers do.
A ``gateway`` acknowledges each, and prints every 0.1 s how many have come, with the time. This is the only part of the
benchmark that knows the fleet from inside: from outside nobody sees a batch.
"""

import asyncio
import json
import sys
import time
from functools import partial

from autogen_core import MessageContext, RoutedAgent, TypeSubscription, message_handler

from fleet import topics
from fleet.runtime import FleetRuntime
from fleet.settings import FleetSettings, HostPort
from protos import chat_pb2 as pb

WINDOW = 2
ONLY_OURS = {"skip_class_subscriptions": True, "skip_direct_message_subscription": True}
TEXT = "some forty bytes of a reply to somebody "


class Sender:
    """What one lane sends."""

    def __init__(self, runtime: FleetRuntime, lane: str, chunks: int) -> None:
        self._bus = runtime
        self._lane = lane
        self._number = 0
        self._chunks = [pb.ChatChunk(request_id=f"{lane}-{n}", attempt=1, text=TEXT, tokens=8) for n in range(chunks)]

    def send(self) -> None:
        self._number += 1
        batch = pb.ChunkBatch(worker_id=self._lane, epoch=1, number=self._number, chunks=self._chunks)
        self._bus.publish(batch, topics.chunks(self._lane))


class WorkerEnd(RoutedAgent):
    """Sends the next batch when one was acknowledged."""

    def __init__(self, sender: Sender) -> None:
        super().__init__("sends batches")
        self._sender = sender

    @message_handler
    async def on_ack(self, message: pb.ChunkAck, ctx: MessageContext) -> None:
        self._sender.send()


class GatewayEnd(RoutedAgent):
    """Acknowledges each batch."""

    received = 0
    """Batches, on all lanes."""

    def __init__(self, runtime: FleetRuntime) -> None:
        super().__init__("acknowledges batches")
        self._bus = runtime

    @message_handler
    async def on_batch(self, message: pb.ChunkBatch, ctx: MessageContext) -> None:
        GatewayEnd.received += 1
        ack = pb.ChunkAck(gateway_id=message.worker_id, epoch=message.epoch, received=message.number)
        self._bus.publish(ack, topics.chat(message.worker_id))


async def main(role: str, host: str, lanes: int, chunks: int) -> None:
    address, _, port = host.rpartition(":")
    joined = asyncio.Event()
    runtime = FleetRuntime(FleetSettings(host=HostPort(address, int(port))), lambda up: joined.set() if up else None)
    senders = [Sender(runtime, lane(number), chunks) for number in range(lanes if role == "worker" else 0)]
    for number in range(lanes):
        name = lane(number)
        if role == "worker":
            agent_type, topic = topics.agent_type(topics.WORKER, name), topics.chat(name)
            await WorkerEnd.register(runtime, agent_type, partial(WorkerEnd, senders[number]), **ONLY_OURS)
        else:
            agent_type, topic = topics.agent_type(topics.GATEWAY, name), topics.chunks(name)
            await GatewayEnd.register(runtime, agent_type, partial(GatewayEnd, runtime), **ONLY_OURS)
        await runtime.add_subscription(TypeSubscription(topic.type, agent_type))
    await runtime.start()
    await joined.wait()
    for sender in senders * WINDOW:
        sender.send()
    while True:
        print(json.dumps([time.monotonic(), GatewayEnd.received]), flush=True)
        await asyncio.sleep(0.1)


def lane(number: int) -> str:
    """The id of both ends of a lane."""
    return f"bench-{number}"


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
