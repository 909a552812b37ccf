"""Passes what the bus brings to the directory, the lanes and the chats."""

import time
from collections.abc import Callable

from autogen_core import MessageContext, RoutedAgent, TypeSubscription, message_handler

from fleet import logs
from fleet.bus import topics
from fleet.bus.runtime import FleetRuntime
from fleet.bus.senders import Senders
from fleet.lane import Inbox
from fleet.process.repeats import Repeats
from gateway.chats.chats import Chats
from gateway.routing.admission import Admission
from gateway.routing.directory import Directory
from gateway.routing.peers import Peers
from protos import chat_pb2 as pb

log = logs.logger(__name__)

EVENTS = 10_000
"""Most events of a batch; they take 40 ms. A worker sends at most 8,192: a batch's bytes by the cost of an event."""


class FanIn:
    """Receives the workers' batches, by the bus's shortcut: see ``FleetRuntime.shortcut``."""

    def __init__(self, directory: Directory, inbox: Inbox, chats: Chats) -> None:
        self._directory = directory
        self._inbox = inbox
        self._chats = chats
        self._senders = Senders()
        self._repeats = Repeats()

    def receive(self, batch: pb.ChunkBatch) -> None:
        """Deliver a batch. One of an unknown worker is dropped; the worker's lane resends it."""
        worker_id = batch.worker_id
        if self._directory.get(worker_id) is None:
            return
        if not self._senders.believes(batch, worker_id):
            return
        if len(batch.events) > EVENTS:
            if self._repeats.is_new(worker_id):
                log.warning("dropped a batch of too many events", worker=worker_id, events=len(batch.events))
            return
        events, broken = self._inbox.receive(batch)
        if broken:
            log.warning("lane broken", worker=worker_id)
            self._chats.lane_broken(worker_id)
        self._chats.deliver(worker_id, events)


class GatewayAgent(RoutedAgent):
    def __init__(self, directory: Directory, admission: Admission, chats: Chats, peers: Peers) -> None:
        super().__init__("A gateway of the fleet")
        self._directory = directory
        self._admission = admission
        self._chats = chats
        self._peers = peers
        self._senders = Senders()

    @message_handler
    async def on_status(self, message: pb.WorkerStatus, ctx: MessageContext) -> None:
        if not self._senders.believes(message, message.worker_id):
            return
        if self._directory.get(message.worker_id) is None and message.state != pb.WORKER_STATE_LEFT:
            log.info("worker found", worker=message.worker_id, models=list(message.models), capacity=message.capacity)
        if self._directory.heard(message, time.monotonic()):
            log.info("worker left", worker=message.worker_id)
            self._chats.worker_gone(message.worker_id)
        self._admission.dispatch()

    @message_handler
    async def on_gateway(self, message: pb.GatewayStatus, ctx: MessageContext) -> None:
        if self._senders.believes(message, message.gateway_id):
            self._peers.heard(message, time.monotonic())

    @message_handler
    async def on_left(self, message: pb.MemberLeft, ctx: MessageContext) -> None:
        if not self._senders.believes(message, topics.HOST):
            return
        self._peers.left(message.member_id)
        if self._directory.left(message, time.monotonic()):
            self._chats.worker_left(message.member_id)


async def register(runtime: FleetRuntime, gateway_id: str, make: Callable[[], GatewayAgent], batches: FanIn) -> None:
    runtime.shortcut(pb.ChunkBatch, batches.receive)
    agent_type = topics.agent_type(topics.GATEWAY, gateway_id)
    await GatewayAgent.register(
        runtime,
        agent_type,
        make,
        skip_class_subscriptions=True,
        skip_direct_message_subscription=True,
    )
    for topic in (topics.chunks(gateway_id), topics.WORKERS, topics.GATEWAYS, topics.MEMBERS):
        await runtime.add_subscription(TypeSubscription(topic.type, agent_type))
