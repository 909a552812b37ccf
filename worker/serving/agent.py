"""The worker's agent on the bus. It is stateless: messages go to the registry and the lanes."""

from autogen_core import MessageContext, RoutedAgent, TypeSubscription, message_handler

from fleet.bus import topics
from fleet.bus.runtime import FleetRuntime
from fleet.bus.senders import Senders
from protos import chat_pb2 as pb
from worker.serving.gateway_watch import GatewayWatch
from worker.serving.registry import Registry

ACK_BYTES = 64 * 1024
CREDIT_BYTES = 128
"""Limit of an ack's size, and of its size for each run of this worker: twice what a gateway needs to name it."""


class MyAgent(RoutedAgent):
    """Receives what is rare; see ``protos/chat.proto`` for the messages."""

    def __init__(self, registry: Registry, watch: GatewayWatch, senders: Senders) -> None:
        super().__init__("A chat agent of the fleet")
        self._registry = registry
        self._watch = watch
        self._senders = senders

    @message_handler
    async def on_cancel(self, message: pb.CancelChat, ctx: MessageContext) -> None:
        if self._senders.believes(message, message.reply_to):
            self._registry.cancel(message.reply_to, message.request_id, message.attempt, message.reason)

    @message_handler
    async def on_left(self, message: pb.MemberLeft, ctx: MessageContext) -> None:
        if self._senders.believes(message, topics.HOST):
            self._watch.left(message)


async def register(runtime: FleetRuntime, worker_id: str, registry: Registry, watch: GatewayWatch) -> None:
    """Put the agent on the bus: one type per worker, one instance, two topics.

    Acks and requests do not pass through the agent: AutoGen copies a message five times on its way to one.
    """
    senders = Senders()

    def begin(request: pb.ChatHistory) -> None:
        if senders.believes(request, request.reply_to):
            registry.begin(request)

    runtime.shortcut(pb.ChunkAck, watch.acknowledged, ACK_BYTES + registry.most * CREDIT_BYTES)
    runtime.shortcut(pb.ChatHistory, begin)
    agent_type = topics.agent_type(topics.WORKER, worker_id)
    await MyAgent.register(
        runtime,
        agent_type,
        lambda: MyAgent(registry, watch, senders),
        skip_class_subscriptions=True,
        skip_direct_message_subscription=True,
    )
    for topic in (topics.chat(worker_id), topics.MEMBERS):
        await runtime.add_subscription(TypeSubscription(topic.type, agent_type))
