"""Events pass by the relay where there is one and by gRPC where not; the two connections of a link end as one."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from autogen_core import (
    PROTOBUF_DATA_CONTENT_TYPE,
    MessageContext,
    RoutedAgent,
    TopicId,
    TypeSubscription,
    message_handler,
    try_get_known_serializers_for_type,
)
from autogen_ext.runtimes.grpc import GrpcWorkerAgentRuntime

from fleet.bus import relay, runtime, topics
from fleet.bus.relay import FIRST_BYTES, HEAD, Relay, RelayRefused
from fleet.bus.runtime import FleetRuntime
from fleet.security.identity import Identity
from fleet.security.tokens import Tokens
from fleet.settings import FleetSettings, HostPort
from host import member as hosts
from host.server import FleetHost
from host.servicer import Servicer
from protos import chat_pb2 as pb
from tests.harness.fleet import Fleet
from tests.harness.ports import free_port
from tests.harness.waiting import SOON, eventually

EAR = "ear"
"""A kind that the fleet does not know: its members are free to talk about anything but the fleet's own business."""


class Member:
    """One that hears what is published on its topic: of its name, or as a worker or gateway its own, and who left."""

    def __init__(self, name: str, host: HostPort, kind: str = EAR, **settings: Any) -> None:
        self.name = name
        self.agent_type = topics.agent_type(kind, name)
        own = {topics.WORKER: topics.chat(name), topics.GATEWAY: topics.chunks(name)}
        self._topics = (own[kind].type, topics.MEMBERS.type) if kind in own else (name, LONG_TOPIC)
        self.heard: list[str] = []
        self.left: list[pb.MemberLeft] = []
        self.links: list[bool] = []
        self.runtime = FleetRuntime(FleetSettings(host=host, **settings), self.links.append)
        self.runtime.shortcut(pb.CancelChat, lambda message: self.heard.append(message.request_id))
        self.runtime.shortcut(pb.MemberLeft, self.left.append)

    async def start(self) -> None:
        await Ear.register(
            self.runtime, self.agent_type, Ear, skip_class_subscriptions=True, skip_direct_message_subscription=True
        )
        for topic in self._topics:
            await self.runtime.add_subscription(TypeSubscription(topic, self.agent_type))
        await self.runtime.start()

    def say(self, to: str, *words: str) -> None:
        for word in words:
            self.runtime.publish(pb.CancelChat(request_id=word), TopicId(to, topics.SOURCE))

    @property
    def relay(self) -> Relay:
        assert self.runtime._relay is not None
        return self.runtime._relay

    @property
    def by_relay(self) -> bool:
        return self.runtime._relay is not None


LONG_TOPIC = "t" * 300


class Ear(RoutedAgent):
    """Notes what it hears."""

    def __init__(self, heard: list[str] | None = None) -> None:
        super().__init__("listens")
        self._heard = heard if heard is not None else []

    @message_handler
    async def on_cancel(self, message: pb.CancelChat, ctx: MessageContext) -> None:
        self._heard.append(message.request_id)


class GrpcMember(Member):
    """One of an older version: it has no relay."""

    def __init__(self, name: str, host: HostPort) -> None:
        super().__init__(name, host)
        self.runtime._keep_relay = self._keep_none  # type: ignore[method-assign]

    async def _keep_none(self, link: Any) -> str:
        await asyncio.get_running_loop().create_future()
        raise AssertionError


class Group:
    """A host, and members that come and go."""

    def __init__(self, identities: Path | None = None) -> None:
        self.address = HostPort("127.0.0.1", free_port())
        self.relay_address = HostPort("127.0.0.1", free_port())
        self._identity = identity(identities / "host") if identities else None
        self._identities = identities
        self._members = AsyncExitStack()
        self.host: FleetHost

    async def __aenter__(self) -> "Group":
        self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._members.aclose()
        await self.host.stop()

    def open(self) -> None:
        self.host = FleetHost(self.address, self.relay_address, Tokens(None, None), self._identity)
        self.host.start()

    async def member(self, name: str, kind: str = EAR) -> Member:
        """One that has its relay, and with TLS its role's certificate."""
        folder = self._identities / ("gateway" if kind == topics.GATEWAY else "worker") if self._identities else None
        files = {f"tls_{part}": folder / f"{part}.pem" for part in ("ca", "cert", "key")} if folder else {}
        settings: dict[str, Any] = files
        member = await self._joined(Member(name, self.address, kind, **settings))
        await eventually(lambda: member.by_relay, SOON, f"the relay of {name}")
        return member

    async def grpc_member(self, name: str) -> Member:
        return await self._joined(GrpcMember(name, self.address))

    async def _joined(self, member: Member) -> Member:
        await member.start()
        self._members.push_async_callback(member.runtime.stop)
        await eventually(lambda: member.runtime.linked, SOON, f"{member.name} is linked")
        return member

    @property
    def servicer(self) -> Servicer:
        return self.host._servicer

    def connection(self, member: Member) -> hosts.Member:
        """The host's side of a member's link."""
        return self.servicer.registry._owners[member.agent_type]


def identity(folder: Path) -> Identity:
    return Identity(folder / "ca.pem", folder / "cert.pem", folder / "key.pem")


def frame_of(content: str) -> bytes:
    return HEAD.pack(len(content)) + content.encode()


async def refused(group: Group, first: bytes) -> None:
    """The host ends the connection at this, and sends nothing."""
    reader, writer = await asyncio.open_connection(*group.relay_address)
    writer.write(first)
    try:
        assert await asyncio.wait_for(reader.read(), 5) == b""
    except ConnectionError:
        pass
    finally:
        writer.close()


@pytest.fixture
async def group() -> AsyncIterator[Group]:
    async with Group() as group:
        yield group


# ---------------------------------------------------------------- which way events go


@pytest.fixture
def by_grpc(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the host sends by gRPC."""
    sent: list[Any] = []
    put = hosts.Member.put

    def noted(connection: hosts.Member, message: Any) -> None:
        sent.append(message)
        put(connection, message)

    monkeypatch.setattr(hosts.Member, "put", noted)
    return sent


async def test_events_between_two_members_go_by_relay_in_order(group: Group, by_grpc: list[Any]) -> None:
    one, two = await group.member("one"), await group.member("two")
    words = [str(number) for number in range(500)]
    one.say("two", *words)
    two.say("one", *words)
    await eventually(lambda: one.heard == words and two.heard == words, SOON, "all words")
    assert by_grpc == []


async def test_a_member_without_a_relay_and_one_with_it_hear_each_other(group: Group, by_grpc: list[Any]) -> None:
    one, two = await group.member("one"), await group.grpc_member("two")
    words = [str(number) for number in range(100)]
    one.say("two", *words)
    two.say("one", *words)
    await eventually(lambda: one.heard == words and two.heard == words, SOON, "all words")
    assert len(by_grpc) == len(words)
    assert not two.by_relay


async def test_a_member_of_autogens_own_kind_and_one_with_a_relay_hear_each_other(group: Group) -> None:
    one = await group.member("one")
    heard: list[str] = []
    stock = GrpcWorkerAgentRuntime(str(group.address), payload_serialization_format=PROTOBUF_DATA_CONTENT_TYPE)
    await stock.start()
    try:
        stock.add_message_serializer(try_get_known_serializers_for_type(pb.CancelChat))
        await Ear.register(stock, "stock", lambda: Ear(heard), skip_class_subscriptions=True)
        await stock.add_subscription(TypeSubscription("stock", "stock"))
        one.say("stock", "hello")
        await eventually(lambda: heard == ["hello"], SOON, "what the fleet's member says")
        await stock.publish_message(pb.CancelChat(request_id="good day"), TopicId("one", topics.SOURCE))
        await eventually(lambda: one.heard == ["good day"], SOON, "what AutoGen's member says")
    finally:
        await stock.stop()


async def test_an_event_that_fits_no_frame_goes_by_grpc(group: Group) -> None:
    one, two = await group.member("one"), await group.grpc_member("two")
    two.say(LONG_TOPIC, "long")
    two.say("one", "short")
    await eventually(lambda: sorted(one.heard) == ["long", "short"], SOON, "both")
    assert two.links == [True]


async def test_an_event_that_is_none_harms_nobody(group: Group, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = await group.member("one"), await group.member("two")
    for content in (
        b"\x05",
        b"\x03two",
        b"\x03two\xffn",
        b"\x03two\x01\xff",
        b"\xff" * 300,
        b"\x01\n\x01n",
        b"\x00\x00",
    ):
        one.relay.send(HEAD.pack(len(content)) + content)
    one.say("two", "after")
    await eventually(lambda: two.heard == ["after"], SOON, "what comes after")
    assert (one.links, two.links) == ([True], [True])
    assert "dropped an event" in capsys.readouterr().out


# ---------------------------------------------------------------- who gets in


async def test_nothing_is_read_after_a_wrong_ticket(group: Group) -> None:
    one = await group.grpc_member("one")
    ticket = group.connection(one).ticket
    await refused(group, frame_of("not-a-ticket") + frame_of(ticket) + relay.pack("one", pb.CancelChat(request_id="x")))
    assert group.servicer.tickets == {ticket: group.connection(one)}
    assert group.connection(one).relay is None
    one.say("one", "still here")
    await eventually(lambda: one.heard, SOON, "its own word")
    assert one.heard == ["still here"]


async def test_a_ticket_is_good_for_one_relay(group: Group) -> None:
    one = await group.member("one")
    await refused(group, frame_of(group.connection(one).ticket))
    one.say("one", "still here")
    await eventually(lambda: one.heard == ["still here"], SOON, "its own word")
    assert one.links == [True]


async def test_a_ticket_is_good_while_its_link_is_there(group: Group) -> None:
    one = await group.grpc_member("one")
    connection = group.connection(one)
    connection.close()  # its stream may take a while to end
    await refused(group, frame_of(connection.ticket))
    await eventually(lambda: one.links == [True, False, True], SOON, "it is back")
    assert list(group.servicer.tickets) == [group.connection(one).ticket]


async def test_a_first_frame_that_is_too_big_is_refused_at_its_head(group: Group) -> None:
    await refused(group, HEAD.pack(FIRST_BYTES + 1))
    await refused(group, HEAD.pack(0xFFFFFFFF) + b"x" * 1000)


async def test_no_ticket_is_kept_when_members_have_gone(group: Group) -> None:
    for _ in range(3):
        one, two = await group.member("one"), await group.grpc_member("two")
        await one.runtime.stop()
        await two.runtime.stop()
        await eventually(lambda: not group.servicer.members, SOON, "both have left")
    assert group.servicer.tickets == {}


async def test_with_identities_the_relay_is_tls_and_strangers_stay_out(identities: Path) -> None:
    async with Group(identities) as group:
        one, two = await group.member("one", topics.GATEWAY), await group.member("two", topics.WORKER)
        for member in (one, two):
            assert member.relay.transport.get_extra_info("ssl_object").version() == "TLSv1.3"
        one.say(topics.chat("two").type, "hello")
        await eventually(lambda: two.heard == ["hello"], SOON, "the word")
        host_end = group.connection(one).relay
        assert host_end is not None
        assert host_end.transport.get_extra_info("peercert")
        group.servicer.tickets["spare"] = group.connection(one)
        trusting = ssl.create_default_context(cafile=identities / "worker" / "ca.pem")

        def stranger() -> Relay:
            return Relay(lambda frame: None, 1000, 60, 60)

        with pytest.raises((OSError, RelayRefused)):
            await relay.dial(group.relay_address, trusting, "spare", stranger)
        with pytest.raises((OSError, RelayRefused)):
            await relay.dial(group.relay_address, None, "spare", stranger)
        await refused(group, frame_of("spare"))
        assert "spare" in group.servicer.tickets
        own = identity(identities / "worker").context()
        end = await relay.dial(group.relay_address, own, "spare", stranger)
        end.close()
        await asyncio.wait_for(end.closed, SOON)


# ---------------------------------------------------------------- one fate


@pytest.mark.parametrize("side", ["member", "host"])
async def test_a_lost_relay_ends_the_link_and_the_member_joins_again(group: Group, side: str) -> None:
    one, two = await group.member("one"), await group.member("two")
    first, connection = one.relay, group.connection(one)
    end = first if side == "member" else connection.relay
    assert end is not None
    end.transport.abort()
    await eventually(lambda: one.links == [True, False, True], SOON, "it is back")
    await eventually(lambda: one.by_relay, SOON, "its relay")
    assert one.relay is not first
    assert group.connection(one) is not connection
    two.say("one", "hello again")
    one.say("two", "good to be back")
    await eventually(lambda: (one.heard, two.heard) == (["hello again"], ["good to be back"]), SOON, "the words")
    assert two.links == [True]


async def test_a_lost_stream_ends_the_relay_too(group: Group) -> None:
    one = await group.member("one")
    first, host_end = one.relay, group.connection(one).relay
    assert one.runtime._link is not None
    assert host_end is not None
    await one.runtime._link.close()
    await asyncio.wait_for(asyncio.gather(first.closed, host_end.closed), SOON)
    await eventually(lambda: one.links == [True, False, True] and one.by_relay, SOON, "it is back")


async def test_a_member_that_leaves_ends_both_connections(group: Group) -> None:
    one, two = await group.member("one", topics.WORKER), await group.member("two", topics.GATEWAY)
    host_end = group.connection(one).relay
    assert host_end is not None
    await one.runtime.stop()
    await asyncio.wait_for(host_end.closed, SOON)
    await eventually(lambda: two.left, SOON, "the news")
    left = pb.MemberLeft(member_id="one", kind="worker", cause=pb.LEAVE_CAUSE_CLOSED, sent_by=[topics.HOST])
    assert two.left == [left]
    assert one.links == [True, False]


@pytest.mark.parametrize("by", ["relay", "gRPC"])
async def test_a_member_that_leaves_loses_nothing_of_what_it_published(
    group: Group, by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "LEAVE_TIMEOUT", SOON)  # however busy the machine is
    two = await group.member("two")
    for number in range(10):
        one = await (group.member if by == "relay" else group.grpc_member)(f"one-{number}")
        one.say("two", *(["word"] * 200))
        await one.runtime.stop()
        await eventually(lambda: len(two.heard) == 200 * (number + 1), SOON, "all words")  # noqa: B023


async def test_members_are_back_on_the_relay_after_the_hosts_loss(group: Group) -> None:
    one, two = await group.member("one"), await group.member("two")
    await group.host.stop()
    await eventually(lambda: not one.runtime.linked and not two.runtime.linked, SOON, "the loss")
    one.say("two", "into the void")
    group.open()
    await eventually(lambda: one.by_relay and two.by_relay, SOON, "both are back")
    one.say("two", "hello")
    await eventually(lambda: two.heard == ["hello"], SOON, "the word")


# ---------------------------------------------------------------- no relay to be had


async def test_events_pass_by_grpc_until_the_host_lets_the_relay_in(
    group: Group, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(runtime, "RELAY_RETRY", 0.1)
    asked: list[str] = []
    admit = Servicer.admit
    with monkeypatch.context() as closed:
        closed.setattr(Servicer, "admit", lambda servicer, ticket: asked.append(ticket))
        one = await group.grpc_member("one")
        two = Member("two", group.address)
        await two.start()
        await eventually(lambda: len(asked) > 5, SOON, "it asks again")
        one.say("two", "hello")
        await eventually(lambda: two.heard == ["hello"], SOON, "the word, by gRPC")
        assert not two.by_relay
    assert Servicer.admit is admit
    await eventually(lambda: two.by_relay, SOON, "the relay")
    assert two.links == [True]
    assert capsys.readouterr().out.count("no relay, events pass by gRPC") == 1
    await two.runtime.stop()


# ---------------------------------------------------------------- processes


@asynccontextmanager
async def listener(fleet: Fleet) -> AsyncIterator[Member]:
    """A member of ours in a fleet of real processes."""
    member = Member("listener", HostPort("127.0.0.1", fleet.host_port), topics.GATEWAY)
    await member.start()
    await eventually(lambda: member.by_relay, SOON, "its relay")
    yield member
    await member.runtime.stop()


def peers(fleet: Fleet) -> Callable[[], set[tuple[int, int]]]:
    """The ports of both ends of the connections to the host, of both kinds."""

    ports = fleet.host_port, fleet.relay_port

    def look() -> set[tuple[int, int]]:
        connections = psutil.Process(fleet.host.pid).net_connections("tcp")
        return {
            (connection.raddr.port, connection.laddr.port)
            for connection in connections
            if connection.raddr and connection.laddr.port in ports and connection.status == "ESTABLISHED"
        }

    return look


async def test_a_killed_member_leaves_no_connection_and_all_are_told() -> None:
    with Fleet(workers=1, start=False) as fleet:
        fleet.start()
        await asyncio.to_thread(fleet.wait_until_ready)
        async with listener(fleet) as member:
            look = peers(fleet)
            await eventually(lambda: len(look()) == 6, SOON, "three members on two connections each")
            worker = fleet.new_worker()
            worker.start()
            await eventually(lambda: len(fleet.ready_workers()) == 2 and len(look()) == 8, SOON, "a second worker")
            worker.kill()
            await eventually(lambda: member.left, SOON, "the news")
            assert [(left.kind, left.cause) for left in member.left] == [("worker", pb.LEAVE_CAUSE_CLOSED)]
            await eventually(lambda: len(look()) == 6, SOON, "its connections are gone")
            assert member.links == [True]
