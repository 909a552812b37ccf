"""What the bus brings: whose batches are delivered, and what becomes of the others."""

import time
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.chats.fan_in import EVENTS, FanIn, GatewayAgent
from gateway.chats.reply import Completed
from gateway.routing.peers import Peers
from protos import chat_pb2 as pb
from tests.unit.gateway.chats.test_chats import Stage, cancel, read

CTX: Any = None


class Bus:
    """A gateway's ends on the bus, with one worker known, ``w0``."""

    def __init__(self) -> None:
        self.stage = Stage(workers=1)
        self.fan_in = FanIn(self.stage.directory, self.stage.inbox, self.stage.chats)
        self.number = 0

    def batch(self, *events: pb.ReplyEvent, **fields: Any) -> None:
        self.number += 1
        head: dict[str, Any] = {"worker_id": "w0", "epoch": 1, "number": self.number, "base": 1} | fields
        self.fan_in.receive(pb.ChunkBatch(events=events, **head))


def text(value: str) -> pb.ReplyEvent:
    return pb.ReplyEvent(request_id="r", attempt=1, text=value)


async def test_a_workers_batches_reach_the_reply_and_are_acknowledged() -> None:
    bus = Bus()
    chat, driver = bus.stage.begin()
    await bus.stage.asked()
    bus.batch(text("a"), text("b"))
    bus.batch(pb.ReplyEvent(request_id="r", attempt=1, done=pb.Done(finish_reason="stop")))
    assert await read(chat) == ("ab", Completed("stop"))
    await driver
    acks = [message.received for message, _ in bus.stage.sent if isinstance(message, pb.ChunkAck)]
    assert acks == [2]


@pytest.mark.parametrize("fields", [{"worker_id": "unknown"}, {"sent_by": ["w1"]}], ids=["unknown", "another's"])
async def test_a_batch_of_an_unknown_worker_or_in_anothers_name_is_dropped(fields: dict[str, Any]) -> None:
    bus = Bus()
    chat, driver = bus.stage.begin()
    await bus.stage.asked()
    bus.batch(text("a"), **fields)
    assert not chat.reply.started
    assert [type(message) for message, _ in bus.stage.sent] == [pb.ChatHistory]
    await cancel(driver)


async def test_a_batch_of_too_many_events_is_dropped_and_logged_once() -> None:
    bus = Bus()
    with capture_logs() as lines:
        for _ in range(3):
            bus.batch(*[pb.ReplyEvent() for _ in range(EVENTS + 1)], number=1)
    assert [line["event"] for line in lines] == ["dropped a batch of too many events"]
    assert bus.stage.sent == []


async def test_a_lane_that_starts_again_ends_what_had_begun() -> None:
    bus = Bus()
    chat, driver = bus.stage.begin()
    await bus.stage.asked()
    bus.batch(text("a"))
    bus.batch(text("late"), epoch=2, number=1)
    got, end = await read(chat)
    assert (got, getattr(end, "code", None)) == ("a", "lane_broken")
    await driver


async def test_statuses_and_the_hosts_word_tell_who_is_there() -> None:
    bus = Bus()
    agent = GatewayAgent(bus.stage.directory, bus.stage.admission, bus.stage.chats, Peers("g"))
    status = pb.WorkerStatus(worker_id="new", models=["m"], capacity=1, state=pb.WORKER_STATE_READY, sent_by=["new"])
    with capture_logs() as lines:
        await GatewayAgent.on_status(agent, status, CTX)
        await GatewayAgent.on_status(agent, pb.WorkerStatus(worker_id="other", sent_by=["new"]), CTX)
        status.state = pb.WORKER_STATE_LEFT
        await GatewayAgent.on_status(agent, status, CTX)
    assert [line["event"] for line in lines][::2] == ["worker found", "worker left"]
    assert bus.stage.directory.get("other") is None


async def test_gateways_hear_each_other() -> None:
    stage, peers = Stage(), Peers("g")
    agent = GatewayAgent(stage.directory, stage.admission, stage.chats, peers)
    for sender in ("g", "h", "i"):
        status = pb.GatewayStatus(gateway_id="i" if sender == "i" else "h", sent_by=[sender])
        await GatewayAgent.on_gateway(agent, status, CTX)
    assert [peer["id"] for peer in peers.describe(time.monotonic())] == ["h", "i"]
    left = pb.MemberLeft(member_id="i", kind="gateway", sent_by=["host"])
    await GatewayAgent.on_left(agent, left, CTX)
    assert [peer["id"] for peer in peers.describe(time.monotonic())] == ["h"]


@pytest.mark.parametrize(("sender", "attempts"), [("host", 2), ("w1", 1)])
async def test_only_the_host_says_who_left(sender: str, attempts: int) -> None:
    stage = Stage(workers=2)
    agent = GatewayAgent(stage.directory, stage.admission, stage.chats, Peers("g"))
    _, driver = stage.begin()
    [(_, worker)] = await stage.asked()
    [attempt] = stage.chats._running(worker)
    left = pb.MemberLeft(member_id=worker, kind="worker", cause=pb.LEAVE_CAUSE_CLOSED, sent_by=[sender])
    await GatewayAgent.on_left(agent, left, CTX)
    assert attempt.outcome.done() == (attempts == 2)
    if attempts == 2:
        await stage.asked(2)
    assert len(stage.histories()) == attempts
    await cancel(driver)
