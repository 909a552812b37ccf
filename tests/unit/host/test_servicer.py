"""The host's gRPC service: who is let in, what is told with the ticket, and how events are routed."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import grpc
import pytest
from autogen_core import TopicId
from autogen_ext.runtimes.grpc.protos import agent_worker_pb2 as rpc

from fleet.bus import relay, topics
from fleet.bus.events import event
from fleet.bus.relay import Relay
from fleet.security.tokens import Tokens
from host import backlog
from host import member as members
from host.member import Member
from host.servicer import Servicer
from protos import chat_pb2 as pb
from tests.harness.waiting import eventually
from tests.unit.fleet.bus.test_relay import Wire

PORT = 50052


class Aborted(Exception):
    pass


class Context:
    """What gRPC gives a call."""

    def __init__(self, client_id: str, token: str = "") -> None:
        self._metadata = [("client-id", client_id)] if client_id else []
        if token:
            self._metadata.append(("authorization", f"Bearer {token}"))
        self.initial: dict[str, str] = {}

    def invocation_metadata(self) -> list[tuple[str, str]]:
        return self._metadata

    def auth_context(self) -> dict[str, list[bytes]]:
        return {}

    def peer(self) -> str:
        return "ipv4:127.0.0.1:1"

    async def send_initial_metadata(self, metadata: Any) -> None:
        self.initial = dict(metadata)

    async def abort(self, code: grpc.StatusCode, details: str) -> None:
        raise Aborted(code, details)


class Joined:
    """A member with its stream open."""

    def __init__(self, servicer: Servicer, client_id: str, token: str = "") -> None:
        self.context = Context(client_id, token)
        self.heard: list[rpc.Message] = []
        self._servicer = servicer
        self._client_id = client_id
        self._sent: asyncio.Queue[rpc.Message | None] = asyncio.Queue()
        self._task = asyncio.create_task(self._run())

    async def _messages(self) -> AsyncIterator[rpc.Message]:
        while (message := await self._sent.get()) is not None:
            yield message

    async def _run(self) -> None:
        async for message in self._servicer.OpenChannel(self._messages(), self.context):
            self.heard.append(message)

    @property
    def member(self) -> Member:
        return self._servicer.members[self._client_id]

    async def register(self, agent_type: str, *listens: str) -> None:
        await self._servicer.RegisterAgent(rpc.RegisterAgentTypeRequest(type=agent_type), self.context)
        for topic in listens:
            exact = rpc.TypeSubscription(topic_type=topic, agent_type=agent_type)
            request = rpc.AddSubscriptionRequest(subscription=rpc.Subscription(id=topic, typeSubscription=exact))
            await self._servicer.AddSubscription(request, self.context)

    def publish(self, topic: str, message: Any) -> None:
        self._sent.put_nowait(rpc.Message(cloudEvent=event(message, TopicId(topic, topics.SOURCE), "1")))

    async def leave(self) -> None:
        self._sent.put_nowait(None)
        await asyncio.wait_for(self._task, 5)


class Stuck(Joined):
    """A member that reads nothing."""

    async def _run(self) -> None:
        stream: Any = self._servicer.OpenChannel(self._messages(), self.context)
        await anext(stream)
        await self._sent_none.wait()
        await stream.aclose()

    def __init__(self, servicer: Servicer, client_id: str) -> None:
        self._sent_none = asyncio.Event()
        super().__init__(servicer, client_id)

    async def leave(self) -> None:
        self._sent_none.set()
        await asyncio.wait_for(self._task, 5)


class Group:
    """A servicer and its members."""

    def __init__(self, tokens: Tokens | None = None, relay_port: int = PORT) -> None:
        self.dropped: list[str] = []
        self.servicer = Servicer(tokens or Tokens(None, None), self.dropped.append, relay_port)
        self._joined: list[Joined] = []

    async def join(self, name: str, agent_type: str = "", *listens: str, token: str = "") -> Joined:
        joined = Joined(self.servicer, name, token)
        self._joined.append(joined)
        await eventually(lambda: joined._task.done() or name in self.servicer.members, what="the member")
        if joined._task.done():
            await joined._task
        if agent_type:
            await joined.register(agent_type, *listens)
        return joined

    async def end(self) -> None:
        self.servicer.close()
        await asyncio.gather(*(joined._task for joined in self._joined), return_exceptions=True)
        assert not self.servicer.members
        assert not self.servicer.tickets


@pytest.fixture
async def group() -> AsyncIterator[Group]:
    group = Group()
    yield group
    await group.end()


def payloads(joined: Joined) -> list[bytes]:
    return [message.cloudEvent.proto_data.value for message in joined.heard]


async def test_a_member_is_told_the_relays_port_and_a_ticket_that_is_good_once(group: Group) -> None:
    joined = await group.join("one")
    await eventually(lambda: joined.context.initial, what="what the host tells")
    assert joined.context.initial == {relay.PORT: str(PORT), relay.TICKET: joined.member.ticket}
    assert group.servicer.admit(joined.member.ticket) is joined.member
    assert group.servicer.admit(joined.member.ticket) is None
    assert "chatfleet-relay" not in joined.context.initial, "a member of the version before would dial it"


async def test_a_ticket_ends_with_its_member(group: Group) -> None:
    joined = await group.join("one")
    ticket = joined.member.ticket
    await joined.leave()
    assert group.servicer.admit(ticket) is None


async def test_a_host_without_a_relay_tells_of_none() -> None:
    group = Group(relay_port=0)
    joined = await group.join("one")
    assert not joined.context.initial
    assert not group.servicer.tickets
    await group.end()


@pytest.mark.parametrize(("client_id", "code"), [("", "INVALID_ARGUMENT"), ("one", "ALREADY_EXISTS")])
async def test_a_client_id_must_be_there_and_new(group: Group, client_id: str, code: str) -> None:
    await group.join("one")
    stream = group.servicer.OpenChannel(None, Context(client_id))
    with pytest.raises(Aborted, match=code):
        await anext(stream)


async def test_a_call_without_a_stream_is_refused(group: Group) -> None:
    with pytest.raises(Aborted, match="FAILED_PRECONDITION"):
        await group.servicer.RegisterAgent(rpc.RegisterAgentTypeRequest(type="x"), Context("unknown"))


async def test_what_a_role_does_not_allow_is_refused_with_its_status(group: Group) -> None:
    worker = await group.join("one", "my_agent.w")
    other = await group.join("two")
    with pytest.raises(Aborted, match="ALREADY_EXISTS"):
        await other.register("my_agent.w")
    with pytest.raises(Aborted, match="PERMISSION_DENIED"):
        await worker.register("my_agent.w", "workers")
    assert group.servicer.counts.refusals == {"taken": 1, "role": 1}


async def test_events_go_to_those_that_listen_with_the_senders_stamp(group: Group) -> None:
    gateway = await group.join("one", "gateway.g", "workers")
    worker = await group.join("two", "my_agent.w", "chat.w")
    worker.publish("workers", pb.WorkerStatus(worker_id="w"))
    await eventually(lambda: gateway.heard, what="the event")
    assert list(pb.WorkerStatus.FromString(payloads(gateway)[0]).sent_by) == ["w"]
    assert not worker.heard


async def test_what_may_not_be_published_is_dropped_and_logged_once(
    group: Group, capsys: pytest.CaptureFixture[str]
) -> None:
    gateway = await group.join("one", "gateway.g", "workers", "members")
    worker = await group.join("two", "my_agent.w")
    for _ in range(3):
        worker.publish("members", pb.MemberLeft(member_id="g"))
    worker.publish("workers", pb.WorkerStatus(worker_id="w"))
    await eventually(lambda: gateway.heard, what="what may be published")
    assert len(gateway.heard) == 1
    assert capsys.readouterr().out.count("the role of the sender does not allow it") == 1
    assert group.servicer.counts.drops == {"role": 3}, "each, not only what is logged"
    assert (group.servicer.counts.frames, group.servicer.counts.repacked) == (4, 4)


async def test_others_are_told_who_left_unless_the_host_ends(group: Group) -> None:
    gateway = await group.join("one", "gateway.g", "members")
    worker = await group.join("two", "my_agent.w")
    await worker.leave()
    await eventually(lambda: gateway.heard, what="the news")
    left = pb.MemberLeft.FromString(payloads(gateway)[0])
    assert (left.member_id, left.kind, list(left.sent_by)) == ("w", "worker", [topics.HOST])
    assert left.cause == pb.LEAVE_CAUSE_CLOSED
    assert group.servicer.counts.left == {("worker", "closed"): 1}
    last = await group.join("three", "my_agent.v")
    group.servicer.close()
    await asyncio.wait_for(last._task, 5)
    assert len(gateway.heard) == 1


class Small:
    """A :class:`Backlog` for tests: these many bytes may wait, and no time may pass."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
        for name, value in {"FREE": size, "SHARE": size, "EVENTS": 3 * size, "STUCK_AFTER": 0.0}.items():
            monkeypatch.setattr(backlog, name, value)


async def test_a_member_that_reads_nothing_is_dropped_and_the_others_get_all(
    group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    Small(monkeypatch, 1000)
    stuck = Stuck(group.servicer, "one")
    await eventually(lambda: "one" in group.servicer.members, what="the member")
    await stuck.register("gateway.g", "workers")
    keen = await group.join("two", "gateway.h", "workers")
    worker = await group.join("three", "my_agent.w")
    for count in range(1, 31):
        worker.publish("workers", pb.WorkerStatus(worker_id="w" * 100))
        await eventually(partial(lambda count: len(keen.heard) == count, count), what="the event")
    assert group.dropped == [stuck.context.peer()]
    assert group.servicer.counts.drops["no_room"] >= 1
    assert stuck.member.is_closed
    await stuck.leave()


async def test_a_stream_that_ended_leaves_nothing_that_could_cut_the_next(
    group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(members, "LINGER", 0.01)
    joined = await group.join("one")
    joined._task.cancel()  # as gRPC does when the connection is gone
    await asyncio.wait({joined._task}, timeout=5)
    assert not group.servicer.members
    await asyncio.sleep(0.05)
    assert not group.dropped, "another member's connection may have its port by now"


async def test_a_member_that_is_dropped_keeps_nothing_on_its_relay(group: Group) -> None:
    joined = await group.join("one")
    joined.member.relay = Relay(lambda frame: None, 100, 1.0, 1.0)
    wire = Wire()
    joined.member.relay.connection_made(wire)
    joined.member.drop()
    assert wire.ended[-1] == "aborted", "a close would wait until the member has read"
    assert group.dropped == [joined.context.peer()]
    await asyncio.wait_for(joined._task, 5)


async def test_a_closed_member_opens_no_relay(group: Group) -> None:
    joined = await group.join("one")
    member = joined.member
    member.close()
    assert group.servicer.admit(member.ticket) is None
