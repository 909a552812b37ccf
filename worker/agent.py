"""``MyAgent``: what the bus brings to this worker, handed to the desk and the lanes. It keeps nothing itself."""

from autogen_core import MessageContext, RoutedAgent, TypeSubscription, message_handler

from fleet import topics
from fleet.runtime import FleetRuntime
from fleet.senders import Senders
from protos import chat_pb2 as pb
from worker.desk import Desk
from worker.gateways import Gateways


class MyAgent(RoutedAgent):
    """Chats with users on behalf of the gateways; see ``protos/chat.proto`` for the messages."""

    def __init__(self, desk: Desk, gateways: Gateways) -> None:
        super().__init__("A chat agent of the fleet")
        self._desk = desk
        self._gateways = gateways
        self._senders = Senders()

    @message_handler
    async def on_history(self, message: pb.ChatHistory, ctx: MessageContext) -> None:
        """Begin a chat. Returns at once: the reply travels on the lane."""
        if self._senders.believes(message, message.reply_to):
            self._desk.take(message)

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
    """Put the agent on the bus: one type per worker, one instance, two topics; acks go straight to the lanes."""
    runtime.shortcut(pb.ChunkAck, gateways.acknowledged)
    agent_type = topics.agent_type(topics.WORKER, worker_id)
    await MyAgent.register(
        runtime,
        agent_type,
        lambda: MyAgent(desk, gateways),
        skip_class_subscriptions=True,
        skip_direct_message_subscription=True,
    )
    for topic in (topics.chat(worker_id), topics.MEMBERS):
        await runtime.add_subscription(TypeSubscription(topic.type, agent_type))
