"""A member does what its role allows and nothing else, whatever it sends; the others go on as if it were not there."""

import asyncio
import contextlib
import gc
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from autogen_core import TopicId
from autogen_ext.runtimes.grpc.protos import agent_worker_pb2 as rpc
from autogen_ext.runtimes.grpc.protos import agent_worker_pb2_grpc
from google.protobuf.message import Message

from fleet.bus import relay, topics
from fleet.bus.events import event
from fleet.bus.link import CLIENT_ID, MEMBER_KEY
from fleet.bus.relay import HEAD, Relay
from fleet.security.identity import Identity
from fleet.security.tokens import Tokens
from fleet.settings import HostPort
from host import backlog, servicer
from host.server import FleetHost
from protos import chat_pb2 as pb
from tests.faults.crowd import Say
from tests.harness.chat import JSON, ask, assert_complete, body_of, send
from tests.harness.fleet import Fleet
from tests.harness.ports import free_port
from tests.harness.waiting import SOON, eventually
from tests.schedule import Schedule

TOKEN = "one-token-for-all-members"
TOKENS = {"worker": "the-token-of-all-workers", "gateway": "the-token-of-all-gateways"}
DENIED = grpc.StatusCode.PERMISSION_DENIED
TAKEN = grpc.StatusCode.ALREADY_EXISTS


class Peer:
    """A member that sends what the test wants, by AutoGen's gRPC and by the relay."""

    def __init__(
        self, address: tuple[str, int], token: str = "", key: str = "", identity: Identity | None = None
    ) -> None:
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1)]
        options.append(("grpc.max_receive_message_length", -1))
        target = "{}:{}".format(*address)
        self._address, self._identity = address, identity
        if identity is None:
            self.channel = grpc.aio.insecure_channel(target, options)
        else:
            self.channel = grpc.aio.secure_channel(target, identity.channel_credentials(), options)
        self.stub: Any = agent_worker_pb2_grpc.AgentRpcStub(self.channel)
        self.metadata = [(CLIENT_ID, uuid.uuid4().hex)]
        self.metadata += [("authorization", f"Bearer {token}")] if token else []
        self.metadata += [(MEMBER_KEY, key)] if key else []
        self.heard: list[Message] = []
        self.stream: Any = None
        self.relay: Relay | None = None

    async def open(self) -> None:
        self.stream = self.stub.OpenChannel(metadata=self.metadata)
        await self.stream.wait_for_connection()
        if relay.TICKET not in await self.stream.initial_metadata():
            await self.stream.read()  # raises

    async def dial(self) -> None:
        """Open the relay."""
        told = await self.stream.initial_metadata()
        address = (self._address[0], int(told[relay.PORT]))
        context = self._identity.context() if self._identity is not None else None
        self.relay = await relay.dial(
            address, context, told[relay.TICKET], lambda: Relay(self._relayed, 2**25, 3600.0, 3600.0)
        )

    def _relayed(self, frame: bytes) -> None:
        _, name, payload = relay.unpack(frame)
        self.heard.append(getattr(pb, name.rpartition(".")[2]).FromString(payload))

    async def register(self, agent_type: str) -> None:
        await self.stub.RegisterAgent(rpc.RegisterAgentTypeRequest(type=agent_type), metadata=self.metadata)

    async def subscribe(self, topic: str, agent_type: str, prefix: bool = False) -> None:
        subscription = rpc.Subscription(id=uuid.uuid4().hex)
        if prefix:
            subscription.typePrefixSubscription.topic_type_prefix = topic
            subscription.typePrefixSubscription.agent_type = agent_type
        else:
            subscription.typeSubscription.topic_type = topic
            subscription.typeSubscription.agent_type = agent_type
        await self.stub.AddSubscription(rpc.AddSubscriptionRequest(subscription=subscription), metadata=self.metadata)

    async def subscriptions(self) -> list[Any]:
        answer = await self.stub.GetSubscriptions(rpc.GetSubscriptionsRequest(), metadata=self.metadata)
        return list(answer.subscriptions)

    async def publish(self, topic: str, message: Message, by_grpc: bool = False) -> None:
        if by_grpc or self.relay is None:
            sent = event(message, TopicId(topic, topics.SOURCE), "1")
            await self.stream.write(rpc.Message(cloudEvent=sent))
        else:
            self.relay.send(relay.pack(topic, message))

    async def close(self) -> None:
        if self.relay is not None:
            self.relay.transport.abort()
        if self.stream is not None:
            self.stream.cancel()  # closing the channel does not, while nobody reads
        await self.channel.close()


class Host:
    """A host in this process, and its peers."""

    def __init__(self, tokens: Tokens, identity: Identity | None) -> None:
        self.address = HostPort("127.0.0.1", free_port())
        self.host = FleetHost(self.address, HostPort("127.0.0.1", 0), tokens, identity)
        self.host.start()
        self._peers: list[Peer] = []

    @property
    def servicer(self) -> servicer.Servicer:
        return self.host._servicer

    async def peer(
        self, agent_type: str = "", by_relay: bool = False, hears: tuple[str, ...] = (), **shows: Any
    ) -> Peer:
        peer = Peer(self.address, **shows)
        self._peers.append(peer)
        await peer.open()
        if agent_type:
            await peer.register(agent_type)
        for topic in hears:
            await peer.subscribe(topic, agent_type)
        if by_relay:
            await peer.dial()
        return peer

    async def stop(self) -> None:
        for peer in self._peers:
            await peer.close()
        await self.host.stop()


@contextlib.asynccontextmanager
async def serving(tokens: Tokens | None = None, identity: Identity | None = None) -> AsyncIterator[Host]:
    host = Host(tokens or Tokens(None, None), identity)
    try:
        yield host
    finally:
        await host.stop()


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    async with serving() as host:
        yield host


def identity(folder: Path) -> Identity:
    return Identity(folder / "ca.pem", folder / "cert.pem", folder / "key.pem")


@contextlib.contextmanager
def refused(status: grpc.StatusCode, words: str = "") -> Iterator[None]:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        yield
    assert error.value.code() is status, error.value
    assert words in (error.value.details() or "")


# ---------------------------------------------------------------- roles


@pytest.mark.parametrize(("role", "other"), [("worker", "gateway.x"), ("gateway", "my_agent.x")])
@pytest.mark.parametrize("by", ["certificate", "token"])
async def test_a_role_that_was_shown_decides_what_a_member_registers(
    identities: Path, tmp_path: Path, role: str, other: str, by: str
) -> None:
    file = tmp_path / "tokens"
    file.write_text("".join(f"{role} {token}\n" for role, token in TOKENS.items()))
    tokens = Tokens(None, file) if by == "token" else None
    own = identity(identities / "host") if by == "certificate" else None
    shows = {"token": TOKENS[role]} if by == "token" else {"identity": identity(identities / role)}
    async with serving(tokens, own) as host:
        peer = await host.peer(**shows)
        with refused(DENIED, f"is {role}: it cannot join"):
            await peer.register(other)
        with refused(DENIED, "cannot register 'evil.x'"):
            await peer.register("evil.x")
        await peer.register("my_agent.x" if role == "worker" else "gateway.x")


async def test_certificate_and_token_must_agree(identities: Path, tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text("".join(f"{role} {token}\n" for role, token in TOKENS.items()))
    async with serving(Tokens(None, file), identity(identities / "host")) as host:
        with refused(DENIED, "of different roles"):
            await host.peer("gateway.x", token=TOKENS["gateway"], identity=identity(identities / "worker"))
        await host.peer("my_agent.x", token=TOKENS["worker"], identity=identity(identities / "worker"))


async def test_a_hosts_certificate_is_no_members(identities: Path) -> None:
    async with serving(None, identity(identities / "host")) as host:
        with refused(DENIED, "host's certificate"):
            await host.peer("my_agent.x", identity=identity(identities / "host"))


@pytest.mark.parametrize(
    ("agent_type", "topic"),
    [
        ("my_agent.x", "chat.y"),
        ("my_agent.x", "chunks.x"),
        ("my_agent.x", "workers"),
        ("my_agent.x", "evil"),
        ("gateway.x", "chunks.y"),
        ("gateway.x", "chat.x"),
        ("gateway.x", "evil"),
        ("my_agent.x", "gateways"),
        ("evil.x", "workers"),
        ("evil.x", "members"),
        ("evil.x", "chat.x"),
        ("evil.x", "chunks.x"),
    ],
)
async def test_what_a_member_may_not_hear(host: Host, agent_type: str, topic: str) -> None:
    peer = await host.peer(agent_type)
    with refused(DENIED, "does not allow it to listen"):
        await peer.subscribe(topic, agent_type)
    for prefix in (topic, topic[:2], ""):
        if prefix != "evil" and not (agent_type.startswith("evil") and prefix == "ev"):
            with refused(DENIED, "does not allow it to listen"):
                await peer.subscribe(prefix, agent_type, prefix=True)


async def test_a_member_subscribes_for_itself_only_and_sees_and_removes_its_own_only(host: Host) -> None:
    worker = await host.peer("my_agent.x", hears=("chat.x",))
    other = await host.peer("evil.x")
    with refused(DENIED, "own agent types only"):
        await other.subscribe("anything", "my_agent.x")
    (subscription,) = await worker.subscriptions()
    assert subscription.typeSubscription.topic_type == "chat.x"
    assert await other.subscriptions() == []
    request = rpc.RemoveSubscriptionRequest(id=subscription.id)
    with refused(grpc.StatusCode.NOT_FOUND):
        await other.stub.RemoveSubscription(request, metadata=other.metadata)
    assert len(await worker.subscriptions()) == 1
    await worker.stub.RemoveSubscription(request, metadata=worker.metadata)
    assert await worker.subscriptions() == []


async def test_one_connection_has_one_role_and_one_id(host: Host) -> None:
    worker = await host.peer("my_agent.x")
    for agent_type in ("my_agent.y", "gateway.x", "gateway.y", "evil.x"):
        with refused(DENIED, "one role and one member id"):
            await worker.register(agent_type)
    other = await host.peer("evil.x")
    with refused(DENIED, "one role and one member id"):
        await other.register("my_agent.z")


async def test_calls_need_a_channel_of_their_own(host: Host) -> None:
    peer = await host.peer("my_agent.x")
    same = Peer(host.address)
    same.metadata = peer.metadata
    with refused(TAKEN):
        await same.open()
    stranger = Peer(host.address)
    with refused(grpc.StatusCode.FAILED_PRECONDITION):
        await stranger.register("my_agent.y")
    commands = stranger.stub.OpenControlChannel(metadata=peer.metadata)
    with refused(grpc.StatusCode.UNIMPLEMENTED):
        await commands.read()
    for each in (same, stranger):
        await each.close()


# ---------------------------------------------------------------- member ids


async def test_an_id_belongs_to_its_member_until_that_has_left(host: Host) -> None:
    first = await host.peer("my_agent.x", key="first", hears=("chat.x",))
    for key in ("", "second"):
        other = await host.peer(key=key)
        for _ in range(39):
            with refused(TAKEN, "still connected"):
                await other.register("my_agent.x")
            gc.collect()  # gRPC's client keeps a refused call open until its error is collected
    await first.close()
    await eventually(lambda: "x" not in host.servicer.registry._ids, SOON, "it has left")
    await host.peer("my_agent.x", key="second")


async def test_a_member_that_is_back_on_a_new_link_has_its_id_at_once(host: Host) -> None:
    first = await host.peer("my_agent.x", key="its own", hears=("chat.x",))
    gateway = await host.peer("gateway.g", by_relay=True, hears=("members",))
    again = await host.peer("my_agent.x", key="its own", hears=("chat.x",), by_relay=True)
    assert await first.stream.read() is grpc.aio.EOF
    await gateway.publish("chat.x", pb.CancelChat(request_id="r"))
    await eventually(lambda: again.heard, SOON, "what is sent to it")
    assert gateway.heard == []


async def test_without_a_key_an_id_cannot_be_taken_over(host: Host) -> None:
    await host.peer("my_agent.x")
    other = await host.peer()
    with refused(TAKEN):
        await other.register("my_agent.x")


# ---------------------------------------------------------------- what is published


SENT = [
    ("my_agent.x", "chunks.g", pb.ChunkBatch(worker_id="w", epoch=2**63, number=1, base=1)),
    ("my_agent.x", "workers", pb.WorkerStatus(worker_id="w", state=pb.WORKER_STATE_LEFT)),
    ("my_agent.x", "chunks.g", pb.MemberLeft(member_id="w", kind="worker", cause=pb.LEAVE_CAUSE_CLOSED)),
]


@pytest.mark.parametrize("by", ["gRPC", "relay"])
@pytest.mark.parametrize("claims", [[], ["w"], ["w", "host", "x"]], ids=str)
@pytest.mark.parametrize(("agent_type", "topic", "message"), SENT)
async def test_the_host_says_who_sent_a_message(
    host: Host, agent_type: str, topic: str, message: Any, claims: list[str], by: str
) -> None:
    gateway = await host.peer("gateway.g", by_relay=True, hears=("chunks.g", "workers", "members"))
    sender = await host.peer(agent_type, by_relay=by == "relay")
    sent = type(message)(sent_by=claims)
    sent.MergeFrom(message)
    await sender.publish(topic, sent)
    await eventually(lambda: gateway.heard, SOON, "the message")
    (heard,) = gateway.heard
    assert list(getattr(heard, "sent_by")) == ["x", *claims]  # noqa: B009


@pytest.mark.parametrize("by", ["gRPC", "relay"])
@pytest.mark.parametrize(
    ("agent_type", "topic"),
    [
        ("my_agent.x", "chat.w"),
        ("my_agent.x", "members"),
        ("my_agent.x", "gateways"),
        ("gateway.x", "chunks.g"),
        ("gateway.x", "workers"),
        ("gateway.x", "members"),
        ("evil.x", "chat.w"),
        ("evil.x", "chunks.g"),
        ("evil.x", "workers"),
        ("evil.x", "members"),
        ("", "chunks.g"),
    ],
)
async def test_what_a_member_may_not_publish_is_dropped(
    host: Host, agent_type: str, topic: str, by: str, capsys: pytest.CaptureFixture[str]
) -> None:
    worker = await host.peer("my_agent.w", by_relay=True, hears=("chat.w", "members"))
    gateway = await host.peer("gateway.g", by_relay=True, hears=("chunks.g", "workers", "members"))
    sender = await host.peer(agent_type, by_relay=by == "relay")
    for _ in range(100):
        await sender.publish(topic, pb.MemberLeft(member_id="w", kind="worker", cause=pb.LEAVE_CAUSE_CLOSED))
    await eventually(lambda: host.servicer.counts.drops["role"] == 100, SOON, "the host has handled all of them")
    speaker = await host.peer("gateway.late", by_relay=True)
    await speaker.publish("chat.w", pb.CancelChat(request_id="end"))
    speaker = await host.peer("my_agent.last", by_relay=True)
    await speaker.publish("workers", pb.WorkerStatus(worker_id="last"))
    await eventually(lambda: worker.heard and gateway.heard, SOON, "what others publish")
    assert [type(message) for message in worker.heard + gateway.heard] == [pb.CancelChat, pb.WorkerStatus]
    assert capsys.readouterr().out.count("does not allow it to publish") == 1


async def test_members_of_another_kind_are_free_among_themselves(host: Host) -> None:
    one = await host.peer("ear.one", by_relay=True, hears=("talk",))
    two = await host.peer("ear.two")
    await two.subscribe("ta", "ear.two", prefix=True)
    await two.publish("talk", pb.CancelChat(request_id="hello"))
    await eventually(lambda: one.heard, SOON, "the word")
    assert (await two.stream.read()).cloudEvent.type == "talk"


@pytest.mark.parametrize("by", ["gRPC", "relay"])
async def test_a_message_that_would_hold_its_receivers_up_is_dropped(host: Host, by: str) -> None:
    gateway = await host.peer("gateway.g", by_relay=True, hears=("chunks.g", "workers"))
    worker = await host.peer("my_agent.w", by_relay=by == "relay")
    await worker.publish("workers", pb.WorkerStatus(worker_id="w", models=["m"] * 1_000_000))
    await worker.publish("chunks.g", pb.ChunkBatch(worker_id="w", events=[pb.ReplyEvent()] * 1_000_000))
    await worker.publish("workers", pb.WorkerStatus(worker_id="w"))
    await eventually(lambda: gateway.heard, SOON, "the small one")
    assert gateway.heard == [pb.WorkerStatus(worker_id="w", sent_by=["w"])]


# ---------------------------------------------------------------- members that read nothing, or send nonsense


async def test_a_member_that_reads_nothing_by_grpc_is_dropped_when_it_has_too_much_to_read(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backlog, "FREE", 2 * 1024 * 1024)
    monkeypatch.setattr(backlog, "SHARE", 0)
    monkeypatch.setattr(backlog, "STUCK_AFTER", 0.1)
    lazy = await host.peer("ear.lazy", hears=("talk",))
    keen = await host.peer("ear.keen", by_relay=True, hears=("talk",))
    sender = await host.peer("ear.sender", by_relay=True)
    await eventually(lambda: len(host.servicer.members) == 3, SOON, "all are there")
    sent = 0
    while len(host.servicer.members) == 3:
        assert sent < 200
        await sender.publish("talk", pb.CancelChat(request_id="x" * 100_000))
        sent += 1
        await asyncio.sleep(0.01)
    await eventually(lambda: len(keen.heard) == sent, SOON, "the other has all")
    assert "ear.lazy" not in host.servicer.registry._owners
    with pytest.raises(grpc.aio.AioRpcError):
        await read_all(lazy)


@pytest.mark.parametrize("by_relay", [True, False])
async def test_a_gateway_that_floods_a_busy_worker_does_not_cut_it_off(host: Host, by_relay: bool) -> None:
    """Which would end the worker's link, and all of its streams with it."""
    worker = await host.peer("my_agent.w", by_relay=by_relay, hears=("chat.w",))
    ill = await host.peer("gateway.ill", by_relay=True)
    good = await host.peer("gateway.g", by_relay=True)
    member = next(member for member in host.servicer.members.values() if member.id == "w")
    if worker.relay is not None:
        worker.relay.transport.pause_reading()
    for number in range(20):
        await ill.publish("chat.w", pb.ChatHistory(request_id="x" * 8 * 1024 * 1024, attempt=number))
    assert ill.relay is not None
    await asyncio.wait_for(ill.relay.ask(relay.PING), SOON)  # the host has handled all of it
    await good.publish("chat.w", pb.CancelChat(request_id="small"))
    assert good.relay is not None
    await asyncio.wait_for(good.relay.ask(relay.PING), SOON)
    assert not member.is_closed
    if worker.relay is not None:
        worker.relay.transport.resume_reading()
        await eventually(lambda: pb.CancelChat(request_id="small", sent_by=["g"]) in worker.heard, SOON, "the last")
    else:
        kind = ""
        while kind != "CancelChat":
            kind = (await worker.stream.read()).cloudEvent.attributes["dataschema"].ce_string.rpartition(".")[2]


async def read_all(peer: Peer) -> None:
    while await peer.stream.read() is not grpc.aio.EOF:
        pass


async def test_nonsense_is_logged_once(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    gateway = await host.peer("gateway.g", by_relay=True, hears=("workers",))
    ill = await host.peer("my_agent.ill", by_relay=True)
    assert ill.relay is not None
    for number in range(5_000):
        content = (b"\x07workers", b"\xff" * 40, b"\x01x", b"\x03a b\x00")[number % 4]
        ill.relay.send(HEAD.pack(len(content)) + content)
    await ill.publish("workers", pb.WorkerStatus(worker_id="ill"))
    await eventually(lambda: gateway.heard, SOON, "what comes after")
    assert 0 < capsys.readouterr().out.count("dropped an event") <= 4


# ---------------------------------------------------------------- a whole fleet


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with Fleet(workers=2, settings={"FLEET_TOKEN": TOKEN}) as fleet:
        yield fleet


async def join(fleet: Fleet, agent_type: str, hears: tuple[str, ...] = ()) -> Peer:
    peer = Peer(("127.0.0.1", fleet.host_port), TOKEN)
    await peer.open()
    await peer.register(agent_type)
    for topic in hears:
        await peer.subscribe(topic, agent_type)
    await peer.dial()
    return peer


async def test_a_fleet_with_one_token_says_what_that_does_not_protect(fleet: Fleet) -> None:
    assert "any holder of the token can join as a worker or gateway" in fleet.host.log()


@pytest.mark.parametrize("kind", ["worker", "gateway", "other"])
async def test_streams_are_exact_beside_a_member_that_means_ill(fleet: Fleet, kind: str, figures: Say) -> None:
    workers = [worker["id"] for worker in fleet.ready_workers()]
    gateway = fleet.status()["gateway"]["id"]
    agent_type = {"worker": "my_agent.ill", "gateway": "gateway.ill", "other": "ill.ill"}[kind]
    ill = await join(fleet, f"{agent_type}-{kind}")
    schedules = [Schedule(tokens=400, delay=0.02) for _ in range(10)]
    try:
        async with asyncio.TaskGroup() as group:
            streams = [group.create_task(ask(fleet.address, schedule)) for schedule in schedules]
            await eventually(lambda: fleet.backend.active() == len(schedules), SOON, "all run")
            while not all(stream.done() for stream in streams):
                for message in attack(workers, gateway):
                    for topic in ("workers", "members", f"chunks.{gateway}", *(f"chat.{worker}" for worker in workers)):
                        await ill.publish(topic, message)
                for worker in workers:
                    with contextlib.suppress(grpc.aio.AioRpcError):
                        await ill.register(f"my_agent.{worker}")
                await asyncio.sleep(0.1)
        for stream, schedule in zip(streams, schedules, strict=True):
            assert_complete(stream.result(), schedule)
    finally:
        await ill.close()
    assert {worker["id"] for worker in fleet.ready_workers()} == set(workers)
    lines = sum(len(process.log().splitlines()) for process in fleet.processes)
    figures(f"{lines} log lines of all processes so far")
    assert lines < 300


def attack(workers: list[str], gateway: str) -> list[Message]:
    """Messages in others' names, and nonsense."""
    credit = pb.Credit(request_id="r", attempt=2**32 - 1, consumed=2**64 - 1)
    found: list[Message] = [
        pb.ChunkAck(gateway_id=gateway, complete=True),
        pb.ChunkAck(gateway_id="ill", epoch=2**63, received=2**64 - 1, complete=True, credits=[credit]),
        pb.ChatHistory(request_id="r", attempt=2**32 - 1, reply_to=gateway),
        pb.CancelChat(request_id="r", reply_to="host"),
        pb.ChunkBatch(worker_id="ill", epoch=2**63, number=2**63, base=2**63),
    ]
    for worker in workers:
        found += [
            pb.ChunkBatch(worker_id=worker, epoch=2**63, number=1, base=1, sent_by=[worker]),
            pb.WorkerStatus(worker_id=worker, state=pb.WORKER_STATE_LEFT, sent_by=[worker]),
            pb.MemberLeft(member_id=worker, kind="worker", cause=pb.LEAVE_CAUSE_CLOSED, sent_by=["host"]),
            pb.MemberLeft(member_id=gateway, kind="gateway", cause=pb.LEAVE_CAUSE_CLOSED, sent_by=["host"]),
        ]
    return found


async def test_a_gateway_touches_its_own_chats_only(fleet: Fleet) -> None:
    """One that knows another's request, by whatever means."""
    tag = "someone-elses"
    schedule = Schedule(tag=tag, tokens=400, delay=0.02)
    ill = await join(fleet, "gateway.curious")
    workers = [worker["id"] for worker in fleet.ready_workers()]
    try:
        stream = asyncio.create_task(send(fleet.address, body_of(schedule), JSON | {"x-request-id": "r-1"}))
        await eventually(lambda: fleet.backend.requests(tag), SOON, "it runs")
        for worker in workers:
            await ill.publish(f"chat.{worker}", pb.CancelChat(request_id="r-1", reply_to="curious"))
            await ill.publish(f"chat.{worker}", pb.ChatHistory(request_id="r-1", attempt=99, reply_to="curious"))
            await ill.publish(f"chat.{worker}", pb.CancelChat(request_id="r-1", attempt=99, reply_to="curious"))
        assert_complete(await stream, schedule)
    finally:
        await ill.close()


async def test_a_worker_that_means_ill_spoils_its_own_lane_only(fleet: Fleet) -> None:
    """It is known, and its batches are nonsense in its own name."""
    gateway = fleet.status()["gateway"]["id"]
    ill = await join(fleet, "my_agent.spoilt")
    status = pb.WorkerStatus(worker_id="spoilt", models=["its-own"], capacity=1, state=pb.WORKER_STATE_READY)
    try:
        async with asyncio.timeout(SOON):
            while len(await asyncio.to_thread(fleet.ready_workers)) < 3:
                await ill.publish("workers", status)  # again and again, as one that says nothing more is soon not ready
                await asyncio.sleep(0.1)
        for epoch in (2**63, 2**64 - 1, 5):
            for number in (0, 1, 2**63, 2**64 - 1):
                await ill.publish(
                    f"chunks.{gateway}", pb.ChunkBatch(worker_id="spoilt", epoch=epoch, number=number, base=1)
                )
        schedule = Schedule(tokens=50, delay=0.01)
        assert_complete(await ask(fleet.address, schedule, model="test"), schedule)
    finally:
        await ill.close()
    await eventually(lambda: len(fleet.ready_workers()) == 2, SOON, "it is gone")
