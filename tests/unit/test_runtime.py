"""What a member does with the events that the host brings."""

import pytest
from autogen_core import MessageContext, RoutedAgent, TypeSubscription, message_handler
from autogen_ext.runtimes.grpc.protos import agent_worker_pb2
from google.protobuf.message import Message

from fleet import topics
from fleet.events import event
from fleet.runtime import FleetRuntime
from fleet.settings import FleetSettings
from protos import chat_pb2 as pb
from tests.harness.waiting import eventually


class Listener(RoutedAgent):
    """Notes what reaches an agent."""

    def __init__(self, heard: list[Message]) -> None:
        super().__init__("listens")
        self._heard = heard

    @message_handler
    async def on_left(self, message: pb.MemberLeft, ctx: MessageContext) -> None:
        self._heard.append(message)

    @message_handler
    async def on_ack(self, message: pb.ChunkAck, ctx: MessageContext) -> None:
        self._heard.append(message)


def arrive(runtime: FleetRuntime, message: Message) -> None:
    runtime._receive(agent_worker_pb2.Message(cloudEvent=event(message, topics.MEMBERS, "1")))


@pytest.fixture
async def runtime() -> FleetRuntime:
    return FleetRuntime(FleetSettings(), lambda up: None)


async def listen(runtime: FleetRuntime, heard: list[Message]) -> None:
    await Listener.register(
        runtime, "t", lambda: Listener(heard), skip_class_subscriptions=True, skip_direct_message_subscription=True
    )
    await runtime.add_subscription(TypeSubscription(topics.MEMBERS.type, "t"))


async def test_events_reach_the_agent_that_subscribed(runtime: FleetRuntime) -> None:
    heard: list[Message] = []
    await listen(runtime, heard)
    left = pb.MemberLeft(member_id="m", kind="worker")
    arrive(runtime, left)
    await eventually(lambda: heard, what="the event")
    assert heard == [left]


async def test_a_shortcut_takes_its_kind_at_once_and_in_order_and_no_other(runtime: FleetRuntime) -> None:
    heard: list[Message] = []
    taken: list[pb.ChunkAck] = []
    await listen(runtime, heard)
    runtime.shortcut(pb.ChunkAck, taken.append)
    acks = [pb.ChunkAck(gateway_id="g", received=number) for number in range(3)]
    for ack in acks:
        arrive(runtime, ack)
    assert taken == acks
    arrive(runtime, pb.MemberLeft(member_id="m"))
    await eventually(lambda: heard, what="the event")
    assert heard == [pb.MemberLeft(member_id="m")]


async def test_an_event_that_cannot_be_handled_harms_no_later_one(
    runtime: FleetRuntime, capsys: pytest.CaptureFixture[str]
) -> None:
    taken: list[pb.ChunkAck] = []

    def take(ack: pb.ChunkAck) -> None:
        if ack.received == 0:
            raise ValueError
        taken.append(ack)

    runtime.shortcut(pb.ChunkAck, take)
    arrive(runtime, pb.ChunkAck(received=0))
    arrive(runtime, pb.ChunkAck(received=1))
    assert taken == [pb.ChunkAck(received=1)]
    assert "an event was not understood" in capsys.readouterr().out
