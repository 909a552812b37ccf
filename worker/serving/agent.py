"""``MyAgent``: what the bus brings to this worker, handed to the desk and the lanes. It keeps nothing itself."""

from autogen_core import MessageContext, RoutedAgent, TypeSubscription, message_handler

from fleet.bus import topics
from fleet.bus.runtime import FleetRuntime
from fleet.bus.senders import Senders
from protos import chat_pb2 as pb
from worker.serving.gateway_watch import Gateways
from worker.serving.registry import Desk

ACK_BYTES = 64 * 1024
CREDIT_BYTES = 128
"""Bytes that an acknowledgement may have, and for each chat of this worker: twice what a gateway needs to name it."""


class MyAgent(RoutedAgent):
    """Chats with users on behalf of the gateways; see ``protos/chat.proto`` for the messages."""

    def __init__(self, desk: Desk, gateways: Gateways, senders: Senders) -> None:
        super().__init__("A chat agent of the fleet")
        self._desk = desk
        self._gateways = gateways
        self._senders = senders

    @message_handler
    async def on_cancel(self, message: pb.CancelChat, ctx: MessageContext) -> None:
        """End a chat."""
        if self._senders.believes(message, message.reply_to):
            self._desk.cancel(message.reply_to, message.request_id, message.attempt, message.reason)

    @message_handler
    async def on_left(self, message: pb.MemberLeft, ctx: MessageContext) -> None:
        """Somebody's connection to the host ended."""
        if self._senders.believes(message, topics.HOST):
            self._gateways.left(message)


async def register(runtime: FleetRuntime, worker_id: str, desk: Desk, gateways: Gateways) -> None:
    """Put the agent on the bus: one type per worker, one instance, two topics.

    Acks go straight to the lanes, and histories to the desk: AutoGen's way to an agent copies a message five times.
    """
    senders = Senders()

    def begin(history: pb.ChatHistory) -> None:
        if senders.believes(history, history.reply_to):
            desk.take(history)

    runtime.shortcut(pb.ChunkAck, gateways.acknowledged, ACK_BYTES + desk.capacity * CREDIT_BYTES)
    runtime.shortcut(pb.ChatHistory, begin)
    agent_type = topics.agent_type(topics.WORKER, worker_id)
    await MyAgent.register(
        runtime,
        agent_type,
        lambda: MyAgent(desk, gateways, senders),
        skip_class_subscriptions=True,
        skip_direct_message_subscription=True,
    )
    for topic in (topics.chat(worker_id), topics.MEMBERS):
        await runtime.add_subscription(TypeSubscription(topic.type, agent_type))
