"""What reaches the registry and the watch from the bus, and what is dropped."""

from typing import Any

import pytest

from fleet.bus import topics
from fleet.bus.senders import Senders
from protos import chat_pb2 as pb
from worker.serving import agent


class Told:
    """A registry and a watch, and the runtime that the agent is put on."""

    most = 10

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.receivers: dict[Any, Any] = {}
        self.subscriptions: list[tuple[str, str]] = []

    def begin(self, request: pb.ChatHistory) -> None:
        self.calls.append(("begin", request.request_id))

    def cancel(self, *how: object) -> None:
        self.calls.append(("cancel", *how))

    def left(self, member: pb.MemberLeft) -> None:
        self.calls.append(("left", member.member_id))

    def acknowledged(self, ack: pb.ChunkAck) -> None:
        self.calls.append(("ack", ack.gateway_id))

    def shortcut(self, kind: Any, receive: Any, largest: int = 0) -> None:
        self.receivers[kind] = receive, largest

    async def add_subscription(self, subscription: Any) -> None:
        self.subscriptions.append((subscription.topic_type, subscription.agent_type))


@pytest.fixture
async def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    made = Told()

    async def register(*_: object, **__: object) -> None:
        """What AutoGen does with it is AutoGen's."""

    monkeypatch.setattr(agent.MyAgent, "register", register)
    await agent.register(made, "w", made, made)  # type: ignore[arg-type]
    return made


async def test_an_agent_listens_to_its_own_topic_and_to_the_members(told: Told) -> None:
    agent_type = topics.agent_type(topics.WORKER, "w")
    assert told.subscriptions == [(topics.chat("w").type, agent_type), (topics.MEMBERS.type, agent_type)]


async def test_requests_and_acks_pass_no_agent_and_acks_are_bounded_by_the_capacity(told: Told) -> None:
    told.receivers[pb.ChatHistory][0](pb.ChatHistory(request_id="r", reply_to="g"))
    receive, largest = told.receivers[pb.ChunkAck]
    receive(pb.ChunkAck(gateway_id="g"))
    assert told.calls == [("begin", "r"), ("ack", "g")]
    assert largest == agent.ACK_BYTES + told.most * agent.CREDIT_BYTES


async def test_nobody_begins_or_cancels_in_anothers_name(told: Told) -> None:
    told.receivers[pb.ChatHistory][0](pb.ChatHistory(request_id="r", reply_to="g", sent_by=["other"]))
    received: Any = object.__new__(agent.MyAgent)
    received._registry = received._watch = told
    received._senders = Senders()
    context: Any = None
    cancel = pb.CancelChat(request_id="r", attempt=2, reason="client_gone", reply_to="g")
    await received.on_cancel(pb.CancelChat(reply_to="g", sent_by=["other"]), context)
    await received.on_left(pb.MemberLeft(member_id="g", sent_by=["other"]), context)
    assert told.calls == []
    await received.on_cancel(cancel, context)
    await received.on_left(pb.MemberLeft(member_id="g"), context)
    assert told.calls == [("cancel", "g", "r", 2, "client_gone"), ("left", "g")]
