"""``MyAgent``: what the bus brings to this worker, handed to the desk and the lanes. It keeps nothing itself."""

from autogen_core import MessageContext, RoutedAgent, TypeSubscription, message_handler

from fleet import topics
from fleet.runtime import FleetRuntime
from protos import chat_pb2 as pb
from worker.desk import Desk
from worker.gateways import Gateways


class MyAgent(RoutedAgent):
    """Chats with users on behalf of the gateways; see ``protos/chat.proto`` for the messages."""

    def __init__(self, desk: Desk, gateways: Gateways) -> None:
        super().__init__("A chat agent of the fleet")
        self._desk = desk
        self._gateways = gateways

    @message_handler
    async def on_cancel(self, message: pb.CancelChat, ctx: MessageContext) -> None:
        """End a chat."""
        self._desk.cancel(message.request_id, message.attempt, message.reason)

    @message_handler
    async def on_left(self, message: pb.MemberLeft, ctx: MessageContext) -> None:
        """Somebody's connection to the host ended."""
        self._gateways.left(message)


async def register(runtime: FleetRuntime, worker_id: str, desk: Desk, gateways: Gateways) -> None:
    """Put the agent on the bus: one type per worker, one instance, two topics.

    Acks go straight to the lanes, and histories to the desk: AutoGen's way to an agent copies a message five times.
    """
    runtime.shortcut(pb.ChunkAck, gateways.acknowledged)
    runtime.shortcut(pb.ChatHistory, desk.take)
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
