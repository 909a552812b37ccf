"""What a member does with the events that the host brings."""

import asyncio
import random
from typing import Any

import grpc
import pytest
from autogen_core import MessageContext, RoutedAgent, Subscription, TypeSubscription, message_handler
from autogen_ext.runtimes.grpc.protos import agent_worker_pb2
from google.protobuf.message import Message

from fleet.bus import relay, topics
from fleet.bus import runtime as module
from fleet.bus.events import event
from fleet.bus.link import Link
from fleet.bus.relay import PING, PONG, Relay
from fleet.bus.runtime import FleetRuntime
from fleet.settings import FleetSettings
from protos import chat_pb2 as pb
from tests.harness.waiting import SOON, eventually
from tests.unit.fleet.bus.test_relay import Wire


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


async def test_a_message_that_is_too_large_is_dropped_before_it_is_parsed(
    runtime: FleetRuntime, capsys: pytest.CaptureFixture[str]
) -> None:
    taken: list[pb.ChunkAck] = []
    runtime.shortcut(pb.ChunkAck, taken.append, 20)
    for size in (21, 22, 1):
        arrive(runtime, pb.ChunkAck(gateway_id="g" * size))
    assert taken == [pb.ChunkAck(gateway_id="g")]
    assert capsys.readouterr().out.count("dropped a message that is too large") == 1


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


class Joined(Link):
    """A link that is there, until the test ends it in some way."""

    def __init__(self) -> None:
        super().__init__(None, None, None, "")
        self.end: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.closed = False

    async def read(self) -> Any:
        return await self.end

    async def relay(self) -> tuple[int, str] | None:
        return 1, "a-ticket"

    def finish(self) -> None:
        if not self.end.done():
            self.end.set_result(None)

    async def close(self) -> None:
        self.closed = True


def links_of(joined: list[Joined]) -> Any:
    async def join() -> Link:
        joined.append(Joined())
        return joined[-1]

    return join


@pytest.fixture
async def links(runtime: FleetRuntime, monkeypatch: pytest.MonkeyPatch) -> list[Joined]:
    """All that the runtime has joined; no relay is to be had."""
    joined: list[Joined] = []

    async def refuse(runtime: FleetRuntime, port: int, ticket: str) -> Relay:
        raise ConnectionRefusedError

    monkeypatch.setattr(runtime, "_join", links_of(joined))
    monkeypatch.setattr(FleetRuntime, "_open_relay", refuse)
    monkeypatch.setattr(module, "RETRY_LAST", 0.05)
    monkeypatch.setattr(module, "RELAY_RETRY", 0.05)
    return joined


class Answering(Wire):
    """A host that answers every ping at once."""

    def __init__(self, relay: Relay) -> None:
        super().__init__()
        self._relay = relay

    def write(self, data: bytes | bytearray | memoryview) -> None:
        super().write(data)
        if data == PING:
            self._relay.data_received(PONG)


@pytest.mark.parametrize("error", [asyncio.CancelledError(), RuntimeError("whatever it is"), None], ids=repr)
async def test_a_member_joins_again_however_its_link_ended(
    runtime: FleetRuntime, links: list[Joined], error: BaseException | None
) -> None:
    """A call that gRPC itself cancelled, say, looks like a task that was."""
    await runtime.start()
    await eventually(lambda: runtime.linked, what="the first link")
    if isinstance(error, asyncio.CancelledError):
        links[0].end.cancel()
    elif error is not None:
        links[0].end.set_exception(error)
    else:
        links[0].end.set_result(None)
    await eventually(lambda: len(links) == 2 and runtime.linked, what="the second link")
    assert [link.closed for link in links] == [True, False]
    await runtime.stop()
    assert links[1].closed


async def test_a_member_whose_owner_fails_at_the_news_of_a_link_joins_again(links: list[Joined]) -> None:
    told: list[bool] = []

    def tell(up: bool) -> None:
        told.append(up)
        if len(told) == 1:
            raise RuntimeError

    runtime = FleetRuntime(FleetSettings(), tell)
    runtime._join = links_of(links)  # type: ignore[method-assign]
    await runtime.start()
    await eventually(lambda: len(told) == 3, what="the second link")
    assert told == [True, False, True]
    await runtime.stop()


async def test_whatever_keeps_a_member_off_the_relay_its_link_stays_and_it_asks_again(
    runtime: FleetRuntime, links: list[Joined], monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = iter([OSError(), TypeError("start_tls"), UnicodeError(), TimeoutError()])

    async def dial(port: int, ticket: str) -> Relay:
        for error in errors:
            raise error
        relay = Relay(lambda frame: None, 1, 1, 1)
        relay.connection_made(Answering(relay))
        return relay

    monkeypatch.setattr(runtime, "_open_relay", dial)
    await runtime.start()
    await eventually(lambda: runtime._relay is not None, what="the relay")
    assert len(links) == 1
    assert runtime.linked
    await runtime.stop()
    assert runtime._relay is None


async def test_links_that_end_at_once_are_dialled_less_and_less_often(
    runtime: FleetRuntime, links: list[Joined], monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def noted(seconds: float) -> None:
        if seconds != module.RELAY_RETRY:
            pauses.append(seconds)
        await sleep(0)

    monkeypatch.setattr(module, "RETRY_LAST", 1.0)
    monkeypatch.setattr(module, "RELAY_RETRY", 7.0)
    monkeypatch.setattr(asyncio, "sleep", noted)
    monkeypatch.setattr(random, "uniform", lambda low, high: high)
    monkeypatch.setattr(Joined, "read", ended)
    await runtime.start()
    while len(links) < 8:
        await sleep(0.001)
    monkeypatch.undo()
    await runtime.stop()
    assert pauses[:7] == [0.0, 0.05, 0.1, 0.2, 0.4, 0.8, 1.0]


async def ended(link: Joined) -> Any:
    return None


async def test_a_link_that_does_not_close_does_not_end_the_tries(
    runtime: FleetRuntime, links: list[Joined], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(link: Joined) -> None:
        raise RuntimeError

    monkeypatch.setattr(Joined, "read", ended)
    monkeypatch.setattr(Joined, "close", fail)
    await runtime.start()
    await eventually(lambda: len(links) >= 3, what="a third link")
    await runtime.stop()


async def test_what_no_agent_knows_is_ignored_and_what_is_broken_is_logged_once(
    runtime: FleetRuntime, capsys: pytest.CaptureFixture[str]
) -> None:
    heard: list[Message] = []
    await listen(runtime, heard)
    runtime.shortcut(pb.ChunkAck, lambda ack: None)
    for _ in range(100):
        arrive(runtime, pb.ToolResult())
        runtime._relayed(relay.pack_bytes("t", "chatfleet.v1.ChunkAck", b"\xff"))
        runtime._relayed(relay.pack_bytes("t", "of.another.version", b"\xff"))
        runtime._relayed(b"\0\0\0\x02\x05t")
    arrive(runtime, pb.MemberLeft(member_id="m"))
    await eventually(lambda: heard, what="what is known")
    said = capsys.readouterr().out
    assert said.count("an event was not understood") == 2
    assert said.count("another.version") == 1  # and that at debug


async def test_what_a_member_publishes_is_stamped_already(
    runtime: FleetRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[bytes] = []
    found = Relay(lambda frame: None, 1, 1, 1)
    monkeypatch.setattr(found, "send", sent.append)
    runtime._relay = found
    await runtime._register_agent_type(topics.agent_type(topics.WORKER, "w"))
    runtime.publish(pb.WorkerStatus(worker_id="w"), topics.WORKERS)
    payload = relay.unpack(sent[0])[2]
    assert payload.startswith(relay.stamp("w"))
    assert list(pb.WorkerStatus.FromString(payload).sent_by) == ["w"]


async def test_a_member_that_leaves_waits_until_the_host_has_handled_what_it_published(
    runtime: FleetRuntime, links: list[Joined], monkeypatch: pytest.MonkeyPatch
) -> None:
    end, wire = Relay(lambda frame: None, 1000, 60.0, 60.0), Wire()
    end.connection_made(wire)

    async def dial(port: int, ticket: str) -> Relay:
        return end

    monkeypatch.setattr(module, "LEAVE_TIMEOUT", SOON)
    monkeypatch.setattr(runtime, "_open_relay", dial)
    await runtime.start()
    await eventually(lambda: runtime._relay is not None, what="the relay")
    runtime.publish(pb.WorkerStatus(worker_id="w"), topics.WORKERS)
    stopping = asyncio.create_task(runtime.stop())
    await eventually(lambda: wire.sent.endswith(PING), what="the question")
    assert not links[0].end.done(), "the stream ends after the relay was answered"
    end.data_received(PONG)
    await asyncio.wait_for(stopping, 5)
    assert links[0].end.done()
    assert wire.ended == ["closed"]


async def test_a_host_that_answers_nothing_does_not_keep_a_member(
    runtime: FleetRuntime, links: list[Joined], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LEAVE_TIMEOUT", 0.1)
    monkeypatch.setattr(Joined, "finish", lambda link: None)
    await runtime.start()
    await eventually(lambda: runtime.linked, what="the link")
    await asyncio.wait_for(runtime.stop(), 5)
    assert links[0].closed
    assert not runtime.linked


class Refusing:
    """A host that denies every subscription."""

    async def subscribe(self, subscription: Subscription) -> None:
        denied = grpc.StatusCode.PERMISSION_DENIED
        raise grpc.aio.AioRpcError(denied, grpc.aio.Metadata(), grpc.aio.Metadata(), "not allowed")


async def test_a_gateway_joins_a_host_of_the_version_before_that_lets_it_not_hear_the_others() -> None:
    link: Any = Refusing()
    await module._subscribe(link, TypeSubscription(topics.GATEWAYS.type, "gateway.g"))
    with pytest.raises(grpc.aio.AioRpcError):
        await module._subscribe(link, TypeSubscription(topics.WORKERS.type, "gateway.g"))
