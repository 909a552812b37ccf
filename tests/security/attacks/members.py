"""A member that has a token of the fleet, a worker's where tokens name roles, and means ill."""

import asyncio
import contextlib
import itertools
import secrets
from collections.abc import AsyncIterator
from typing import Any, cast

import grpc
from autogen_ext.runtimes.grpc.protos import agent_worker_pb2, agent_worker_pb2_grpc
from google.protobuf.message import Message

from fleet.bus import relay
from fleet.bus.events import event
from fleet.bus.topics import GATEWAY, MEMBERS, WORKER, WORKERS, agent_type, chat, chunks
from protos import chat_pb2 as pb
from tests.harness.http import get_json
from tests.schedule import Schedule
from tests.security.attacks import Attack, Subject, Target
from tests.security.attacks.clients import LASTS
from tests.security.attacks.unknown import channel

ATTACKS = Subject("members")

MIB = 1024 * 1024
LARGE = 2**63


class Ill:
    """A member's two connections, without any of our manners."""

    def __init__(self, target: Target, opened: grpc.aio.Channel) -> None:
        self._target = target
        self._metadata = [("client-id", secrets.token_hex(8)), ("authorization", f"Bearer {target.token}")]
        self._stub: Any = cast("Any", agent_worker_pb2_grpc.AgentRpcStub(opened))
        self._call = self._stub.OpenChannel(metadata=self._metadata)
        self._writer: asyncio.StreamWriter | None = None
        self.id = f"ill-{secrets.token_hex(4)}"

    async def join(self, by_relay: bool = True) -> None:
        """Open the stream, and the relay where asked."""
        metadata = await self._call.initial_metadata()
        if by_relay:
            if relay.TICKET not in metadata:
                raise ConnectionError("the host ended the stream")
            reader, self._writer = await asyncio.open_connection(*self._target.relay)
            ticket = str(metadata[relay.TICKET]).encode()
            self._writer.write(relay.HEAD.pack(len(ticket)) + ticket)
            await reader.readexactly(len(relay.PONG))

    async def register(self, agent_type: str) -> None:
        request = agent_worker_pb2.RegisterAgentTypeRequest(type=agent_type)
        await self._stub.RegisterAgent(request, metadata=self._metadata, timeout=5)

    async def subscribe(self, topic: str, agent_type: str) -> None:
        found = agent_worker_pb2.TypeSubscription(topic_type=topic, agent_type=agent_type)
        subscription = agent_worker_pb2.Subscription(id=secrets.token_hex(8), typeSubscription=found)
        request = agent_worker_pb2.AddSubscriptionRequest(subscription=subscription)
        await self._stub.AddSubscription(request, metadata=self._metadata, timeout=5)

    async def send(self, topic: str, message: Message) -> None:
        """By relay."""
        await self.send_raw(relay.pack(topic, message))

    async def send_raw(self, data: bytes) -> None:
        assert self._writer is not None, "without a relay"
        self._writer.write(data)
        await self._writer.drain()

    async def publish(self, topic: Any, message: Message) -> None:
        """By gRPC."""
        cloud_event = event(message, topic, "1")
        try:
            await self._call.write(agent_worker_pb2.Message(cloudEvent=cloud_event))
        except asyncio.InvalidStateError as error:  # which is what gRPC raises for a call that has ended
            raise ConnectionError("the host ended the stream") from error

    def close(self) -> None:
        if self._writer is not None:
            self._writer.transport.abort()
        self._call.cancel()


@contextlib.asynccontextmanager
async def joined(target: Target, by_relay: bool = True, kind: str = WORKER) -> AsyncIterator[Ill]:
    """A member of a kind that has joined, and leaves without a word."""
    async with channel(target) as opened:
        ill = Ill(target, opened)
        try:
            await ill.join(by_relay)
            await ill.register(agent_type(kind, ill.id))
            yield ill
        finally:
            ill.close()


async def others(target: Target) -> tuple[list[str], str]:
    """The workers' ids and the gateway's, as ``/fleet`` tells."""
    _, fleet = await get_json(target.gateway, "/fleet")
    return [worker["id"] for worker in fleet["workers"]], fleet["gateway"]["id"]


async def _tolerant(call: Any) -> None:
    """Make a call that the host may refuse."""
    with contextlib.suppress(grpc.RpcError):
        await call


@ATTACKS
async def nonsense_frames(target: Target) -> None:
    """Frames of any content, to topics that others listen to and to none."""
    workers, gateway = await others(target)
    topics = ["workers", "members", "gateways", f"chunks.{gateway}", *(f"chat.{worker}" for worker in workers), "é"]
    kinds = [kind.DESCRIPTOR.full_name for kind in (pb.ChunkBatch, pb.ChunkAck, pb.ChatHistory, pb.WorkerStatus)]
    kinds.append("nothing.Known")
    async with joined(target) as ill:
        for _ in range(2000):
            for topic in topics:
                for kind in kinds:
                    await ill.send_raw(relay.pack_bytes(topic, kind, secrets.token_bytes(30)))
            await ill.send_raw(relay.HEAD.pack(5) + b"\xff\xff\xff\xff\xff" + relay.HEAD.pack(3) + b"\x01\xff\x00")
            await asyncio.sleep(0.01)


@ATTACKS
async def unknown_kinds(target: Target) -> None:
    """Events of kinds that no version knows, which may only be a newer one's."""
    workers, gateway = await others(target)
    async with joined(target) as ill:
        for _ in range(2000):
            for topic in ("workers", f"chunks.{gateway}", *(f"chat.{worker}" for worker in workers)):
                await ill.send_raw(relay.pack_bytes(topic, "chatfleet.v9.Unknown", b"\x0a\x01a") * 20)
            await asyncio.sleep(0.01)


@ATTACKS
async def large_events(target: Target) -> None:
    """Of 30 MiB, to everyone."""
    async with joined(target) as ill:
        status = pb.WorkerStatus(worker_id=ill.id, state=pb.WORKER_STATE_READY, models=["m" * 30 * MIB])
        while True:
            await ill.send("workers", status)
            await asyncio.sleep(0.2)


@ATTACKS
async def many_ghosts(target: Target) -> None:
    """Workers that do not exist, with models that do not exist."""
    async with joined(target) as ill:
        for number in range(100_000):
            worker = f"{ill.id}-{number}"
            models = [f"{worker}-{model}" for model in range(20)]
            await ill.send("workers", pb.WorkerStatus(worker_id=worker, state=pb.WORKER_STATE_READY, models=models))
            await asyncio.sleep(0.001)


async def _unread(target: Target, by_relay: bool) -> None:
    async with joined(target, by_relay) as deaf, joined(target) as loud:
        own = agent_type(WORKER, deaf.id)
        for topic in ("workers", f"chat.{deaf.id}"):
            await _tolerant(deaf.subscribe(topic, own))
        status = pb.WorkerStatus(worker_id=loud.id, state=pb.WORKER_STATE_DRAINING, models=["m" * MIB])
        ack = pb.ChunkAck(gateway_id="g" * MIB)
        while True:
            await loud.send(f"chat.{deaf.id}", ack)
            await loud.send("workers", status)
            await asyncio.sleep(0.005)


@ATTACKS
async def unread_stream(target: Target) -> None:
    """A member without a relay that reads nothing of what others send to it."""
    await _unread(target, by_relay=False)


@ATTACKS
async def unread_relay(target: Target) -> None:
    await _unread(target, by_relay=True)


@ATTACKS
async def rejoining(target: Target) -> None:
    """Members that join and leave at once."""
    for _ in range(50):
        async with joined(target):
            pass


@ATTACKS
async def many_subscriptions(target: Target) -> None:
    async with joined(target) as ill:
        own = agent_type(WORKER, ill.id)
        for number in range(100_000):
            await _tolerant(ill.subscribe(f"chat.{ill.id}.{number}", own))


@ATTACKS
async def many_types(target: Target) -> None:
    async with joined(target) as ill:
        for number in range(100_000):
            await _tolerant(ill.register(agent_type(WORKER, f"{ill.id}-{number}")))


def _pretending(make: Any) -> Attack:
    """Messages in others' names: ``make`` gives topics and messages for a worker's and a gateway's id."""

    async def attack(target: Target) -> None:
        async with joined(target) as worker, joined(target, kind=GATEWAY) as gateway:
            for _ in range(20):
                workers, gateway_id = await others(target)
                for topic, message in itertools.chain(*(make(found, gateway_id) for found in workers)):
                    for ill in (worker, gateway):
                        await ill.send(topic.type, message)
                        await ill.publish(topic, message)
                await asyncio.sleep(0.05)

    return attack


PRETENCES: dict[str, Any] = {
    "worker_left": lambda worker, _: [
        (WORKERS, pb.WorkerStatus(worker_id=worker, state=pb.WORKER_STATE_LEFT)),
        (WORKERS, pb.WorkerStatus(worker_id=worker, state=pb.WORKER_STATE_DRAINING)),
    ],
    "member_left": lambda worker, gateway: [
        (MEMBERS, pb.MemberLeft(member_id=worker, kind="worker", cause=pb.LEAVE_CAUSE_CLOSED)),
        (MEMBERS, pb.MemberLeft(member_id=gateway, kind="gateway", cause=pb.LEAVE_CAUSE_CLOSED)),
    ],
    "acknowledged": lambda worker, gateway: [
        (chat(worker), pb.ChunkAck(gateway_id=gateway, complete=True)),
        (chat(worker), pb.ChunkAck(gateway_id=gateway, epoch=LARGE, received=LARGE)),
    ],
    "later_epoch": lambda worker, gateway: [
        (chunks(gateway), pb.ChunkBatch(worker_id=worker, epoch=LARGE, number=1, base=1)),
        (chunks(gateway), pb.ChunkBatch(worker_id=worker, epoch=2**64 - 1, number=LARGE, base=LARGE)),
    ],
    "asked": lambda worker, gateway: [
        (chat(worker), pb.ChatHistory(request_id="r", attempt=1, reply_to=gateway, model="test")),
        (chat(worker), pb.CancelChat(request_id="r", reply_to=gateway)),
    ],
}
for _name, _make in PRETENCES.items():
    ATTACKS.add(_name, _pretending(_make))


@ATTACKS
async def unknown_chunks(target: Target) -> None:
    """Batches full of chunks of requests that no one waits for."""
    _, gateway = await others(target)
    async with joined(target) as ill:
        await ill.send("workers", pb.WorkerStatus(worker_id=ill.id, state=pb.WORKER_STATE_READY, models=["elsewhere"]))
        for number in range(1, 10_000):
            found = [pb.ReplyEvent(request_id=f"{number}-{index}", attempt=1, text="x") for index in range(9000)]
            await ill.send(
                f"chunks.{gateway}", pb.ChunkBatch(worker_id=ill.id, epoch=1, number=number, base=number, events=found)
            )
            await asyncio.sleep(0.3)


@ATTACKS
async def long_request_ids(target: Target) -> None:
    """Requests whose id stands in every chunk of their replies, of which none is acknowledged."""
    workers, _ = await others(target)
    async with joined(target, kind=GATEWAY) as ill:
        for number in range(100):
            for worker in workers:
                history = pb.ChatHistory(
                    request_id=f"{number}" + "i" * 8 * MIB, attempt=1, reply_to=ill.id, model="hostile"
                )
                await ill.send(f"chat.{worker}", history)
            await asyncio.sleep(0.2)


@ATTACKS
async def many_large_histories(target: Target) -> None:
    """To a model that never answers."""
    workers, _ = await others(target)
    texts = "x" * 8 * MIB, Schedule(first_delay=600).message()
    messages = [pb.ChatMessage(role=pb.ROLE_USER, content=[pb.ContentPart(text=text)]) for text in texts]
    async with joined(target, kind=GATEWAY) as ill:
        for number in range(50):
            for worker in workers:
                history = pb.ChatHistory(
                    request_id=f"{number}", attempt=1, reply_to=ill.id, model="test", messages=messages
                )
                await ill.send(f"chat.{worker}", history)
            await asyncio.sleep(0.3)


@ATTACKS
async def taken_types(target: Target) -> None:
    """The agent types of those who are there."""
    async with joined(target) as ill:
        for _ in range(20):
            workers, gateway = await others(target)
            for taken in (*(agent_type(WORKER, worker) for worker in workers), agent_type(GATEWAY, gateway)):
                await _tolerant(ill.register(taken))
            await asyncio.sleep(0.1)


@ATTACKS
async def own_claims(target: Target) -> None:
    """What it may say as itself, with numbers that make no sense."""
    _, gateway = await others(target)
    async with joined(target) as ill:
        for number in range(500):
            status = pb.WorkerStatus(worker_id=ill.id, state=pb.WORKER_STATE_READY, models=["elsewhere"])
            await ill.send("workers", status)
            for epoch, count, base in ((LARGE, 1, 1), (1, LARGE, LARGE), (number, 0, 2**64 - 1), (0, 1, 1)):
                batch = pb.ChunkBatch(worker_id=ill.id, epoch=epoch, number=count, base=base)
                await ill.send(f"chunks.{gateway}", batch)
            await asyncio.sleep(0.01)


@ATTACKS
async def waits(target: Target) -> None:
    """A member that joins and then does nothing."""
    async with joined(target):
        await asyncio.sleep(LASTS)
