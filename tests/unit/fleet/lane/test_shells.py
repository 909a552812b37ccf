"""Outbox and inbox on a real event loop, with a bus between them that the test can cut."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from fleet.lane import CREDIT, SLICE, Inbox, Outbox, slot
from protos import chat_pb2 as pb
from tests.harness.waiting import until

INTERVAL = 0.001


class Bus:
    """One worker's outbox and one gateway's inbox; ``up`` says whether anything gets through."""

    def __init__(self, interval: float = INTERVAL) -> None:
        self.up = True
        self.batches = 0
        self.acks: list[pb.ChunkAck] = []
        self.text = ""
        self.ended = asyncio.Event()
        self.outbox = Outbox("w", self.to_gateway, interval)
        self.inbox = Inbox("g", self.to_worker)
        self.outbox.link_up()

    def to_gateway(self, gateway_id: str, batch: pb.ChunkBatch) -> None:
        assert gateway_id == "g"
        if not self.up:
            return
        self.batches += 1
        chunks, _ = self.inbox.receive(pb.ChunkBatch.FromString(batch.SerializeToString()))
        for chunk in chunks:
            self.text += chunk.text
            if chunk.HasField("done"):
                self.ended.set()

    def to_worker(self, ack: pb.ChunkAck, worker_id: str) -> None:
        assert worker_id == "w"
        if self.up:
            self.acks.append(ack)
            self.outbox.acknowledge(ack)

    def cut(self) -> None:
        self.up = False
        self.outbox.link_down()

    def mend(self) -> None:
        self.up = True
        self.outbox.link_up()
        self.inbox.link_up()


@pytest.fixture
async def bus() -> AsyncIterator[Bus]:
    async with asyncio.timeout(20):
        yield Bus()


async def test_text_arrives_whole_and_everything_is_acknowledged(bus: Bus) -> None:
    reply = bus.outbox.open("g", "r", 1)
    for number in range(1000):
        await reply.text(f"{number} ")
    reply.finish(pb.Done(finish_reason="stop"))
    await bus.ended.wait()
    await bus.outbox.flushed()
    assert bus.text == "".join(f"{number} " for number in range(1000))


async def test_a_writer_waits_for_its_reader(bus: Bus) -> None:
    incoming = bus.inbox.open("w", "r", 1)
    reply = bus.outbox.open("g", "r", 1)
    writing = asyncio.create_task(reply.text("x" * 3 * CREDIT))
    while len(bus.text) < CREDIT:
        await asyncio.sleep(0.001)
    await asyncio.sleep(0.05)
    assert len(bus.text) == CREDIT
    incoming.consumed(CREDIT)
    while len(bus.text) < 2 * CREDIT:
        await asyncio.sleep(0.001)
    incoming.consumed(CREDIT)
    incoming.consumed(CREDIT)
    await writing


async def test_a_credit_that_was_lost_is_asked_for_again(bus: Bus) -> None:
    incoming = bus.inbox.open("w", "r", 1)
    reply = bus.outbox.open("g", "r", 1)
    writing = asyncio.create_task(reply.text("x" * CREDIT))
    while len(bus.text) < CREDIT:
        await asyncio.sleep(0.001)
    bus.up = False
    incoming.consumed(CREDIT)
    await asyncio.sleep(0.01)
    bus.up = True
    await writing


async def test_what_was_sent_into_a_dead_link_is_sent_again(bus: Bus) -> None:
    reply = bus.outbox.open("g", "r", 1)
    await reply.text("a")
    while not bus.text:
        await asyncio.sleep(0.001)
    bus.cut()
    await reply.text("b")
    reply.finish(pb.Done())
    assert bus.text == "a"
    bus.mend()
    await bus.ended.wait()
    assert bus.text == "ab"


async def test_after_a_cut_the_gateway_names_all_that_it_waits_for(bus: Bus) -> None:
    bus.inbox.open("w", "r", 1)
    closed = bus.inbox.open("w", "s", 1)
    await bus.outbox.open("g", "r", 1).text("a")
    while not bus.text:
        await asyncio.sleep(0.001)
    bus.cut()
    closed.close()
    bus.mend()
    while not (bus.acks and bus.acks[-1].complete):
        await asyncio.sleep(0.001)
    assert [credit.request_id for credit in bus.acks[-1].credits] == ["r"]


async def test_a_reply_opened_while_the_gateway_reports_is_named_too(bus: Bus) -> None:
    bus.inbox.open("w", "r", 1)
    bus.inbox.link_up()
    bus.inbox.open("w", "s", 1)
    while not bus.acks:
        await asyncio.sleep(0.001)
    assert [credit.request_id for credit in bus.acks[-1].credits] == ["r", "s"]


async def test_a_gateway_that_does_not_answer_is_noticed_and_forgotten(bus: Bus) -> None:
    reply = bus.outbox.open("g", "r", 1)
    bus.up = False
    await reply.text("a")
    assert bus.outbox.silent_gateways(longer_than=60) == []
    await asyncio.sleep(0.05)
    assert bus.outbox.silent_gateways(longer_than=0.01) == ["g"]
    bus.outbox.forget("g")
    assert bus.outbox.gateways() == []
    await bus.outbox.flushed()


async def test_an_idle_lane_sends_nothing(bus: Bus) -> None:
    reply = bus.outbox.open("g", "r", 1)
    reply.finish(pb.Done())
    await bus.outbox.flushed()
    before = bus.batches
    await asyncio.sleep(0.05)
    assert bus.batches == before


async def test_batches_that_ask_for_no_ack_get_one_together_soon_after(bus: Bus) -> None:
    reply = bus.outbox.open("g", "r", 1)
    for _ in range(3):
        await reply.text("a")
        before = bus.batches
        while bus.batches == before:
            await asyncio.sleep(0.001)
    assert bus.acks == []
    await bus.outbox.flushed()
    assert [ack.received for ack in bus.acks] == [3]


async def test_what_is_written_while_the_lanes_are_held_goes_in_one_batch(bus: Bus) -> None:
    replies = [bus.outbox.open("g", f"r{number}", 1) for number in range(3)]
    for reply in replies:
        await reply.text("a")
    await until(lambda: bus.text == "aaa")
    before = bus.batches
    last = slot(time.monotonic(), INTERVAL)
    await until(lambda: slot(time.monotonic(), INTERVAL) > last)
    bus.outbox.hold()
    for reply in replies:
        assert reply.try_text("b", 1)
        assert reply.try_text("c", 1)
    await asyncio.sleep(0.02)
    assert bus.batches == before
    bus.outbox.release(at_once=True)
    assert bus.batches == before + 1
    assert bus.text == "aaa" + "bc" * 3


@pytest.mark.parametrize("at_once", [False, True])
async def test_nothing_stays_behind_when_the_lanes_are_let_go(bus: Bus, at_once: bool) -> None:
    reply = bus.outbox.open("g", "r", 1)
    for _ in range(50):
        bus.outbox.hold()
        reply.try_text("a", 1)
        bus.outbox.release(at_once)
    await until(lambda: bus.text == 50 * "a")
    bus.outbox.hold()
    reply.finish(pb.Done())
    bus.outbox.release(at_once)
    await bus.ended.wait()
    await bus.outbox.flushed()


@pytest.mark.parametrize("at_once", [False, True])
async def test_what_was_held_while_the_link_was_away_is_sent_when_it_is_back(bus: Bus, at_once: bool) -> None:
    reply = bus.outbox.open("g", "r", 1)
    await reply.text("a")
    await until(lambda: bus.text == "a")
    bus.outbox.hold()
    reply.try_text("b", 1)
    bus.cut()
    bus.outbox.release(at_once)
    await asyncio.sleep(0.02)
    assert bus.text == "a"
    bus.mend()
    await until(lambda: bus.text == "ab")


async def test_a_link_that_comes_back_while_the_lanes_are_held_is_used(bus: Bus) -> None:
    reply = bus.outbox.open("g", "r", 1)
    bus.cut()
    await reply.text("a")
    bus.outbox.hold()
    bus.mend()
    bus.outbox.release(at_once=False)
    await until(lambda: bus.text == "a")


async def test_text_is_tried_only_as_far_as_the_credit_surely_goes(bus: Bus) -> None:
    bus.inbox.open("w", "r", 1)
    reply = bus.outbox.open("g", "r", 1)
    taken = 0
    while reply.try_text("é" * 1000, 1):
        taken += 2000
    assert CREDIT - 4000 <= taken < CREDIT
    assert not reply.try_text("é" * 1000, 1)
    assert reply.try_text("a" * 100, 1)
    await until(lambda: len(bus.text.encode()) == taken + 100)
    reply.finish(pb.Done())
    assert not reply.try_text("late", 1)


async def test_a_giant_text_is_left_to_the_writer_that_can_wait(bus: Bus) -> None:
    reply = bus.outbox.open("g", "r", 1)
    assert not reply.try_text("a" * (SLICE + 1), 1)
    assert reply._stream.queued == 0


async def test_without_an_interval_everything_is_sent_in_its_own_turn_of_the_loop() -> None:
    bus = Bus(interval=0)
    reply = bus.outbox.open("g", "r", 1)
    for number in range(1, 6):
        assert reply.try_text("a", 1)
        await until(lambda: len(bus.text) == number)  # noqa: B023
        assert bus.batches == number
    reply.finish(pb.Done())
    await bus.ended.wait()
    await bus.outbox.flushed()


async def test_a_long_part_of_a_tool_call_goes_in_slices_under_its_credit(bus: Bus) -> None:
    incoming = bus.inbox.open("w", "r", 1)
    reply = bus.outbox.open("g", "r", 1)
    call = pb.ToolCall(id="c", name="f", arguments="x" * 2 * CREDIT, index=3)
    writing = asyncio.create_task(reply.event(pb.ReplyEvent(tool_call=call)))
    await until(lambda: reply._stream.credit <= 0)
    assert not writing.done()
    incoming.consumed(2 * CREDIT)
    await writing
    await bus.outbox.flushed()
    assert reply._stream.queued > 2 * CREDIT
    assert not reply.finished


async def test_an_event_that_no_gateway_takes_ends_its_reply(bus: Bus) -> None:
    reply = bus.outbox.open("g", "r", 1)
    await reply.event(pb.ReplyEvent(logprobs="[" + "1," * 2 * CREDIT + "1]"))
    assert reply.finished
    await bus.outbox.flushed()
