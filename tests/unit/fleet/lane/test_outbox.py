"""The worker's lanes: what is written arrives, producers pause without credit, and lost answers are asked for."""

import asyncio
import random
from collections.abc import AsyncIterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.lane import CREDIT, SLICE, EventTooLarge, Sink, payload_bytes, slot
from fleet.lane.outbox import LAST_WORDS
from fleet.lane.reply import TERMINAL
from protos import chat_pb2 as pb
from tests.harness.virtual import virtual
from tests.harness.waiting import until
from tests.unit.fleet.lane.bus import INTERVAL, Bus


@pytest.fixture
async def bus() -> AsyncIterator[Bus]:
    async with asyncio.timeout(20):
        yield Bus()


async def test_text_arrives_whole_and_everything_is_acknowledged(bus: Bus) -> None:
    reply = bus.outbox.open("g", "r", 1)
    for number in range(1000):
        reply.text(f"{number} ")
    reply.finish(pb.Done(finish_reason="stop"))
    await bus.ended.wait()
    await bus.outbox.flushed()
    assert bus.text == "".join(f"{number} " for number in range(1000))


class Writer:
    """A producer that writes ``letters``, one of ``size`` bytes after another, until it is paused."""

    def __init__(self, sink: Sink, letters: str, size: int) -> None:
        self.sink = sink
        self.left = list(letters)
        self.size = size
        self.paused = False
        sink.attach(self)

    def write(self) -> None:
        while self.left and not self.paused:
            self.sink.text(self.left.pop(0) * self.size)

    def pause_reading(self) -> None:
        assert not self.paused
        self.paused = True

    def resume_reading(self) -> None:
        assert self.paused
        self.paused = False
        self.write()


@virtual
async def test_a_producer_is_paused_while_its_reader_is_behind() -> None:
    bus = Bus()
    incoming = bus.inbox.open("w", "r", 1)
    writer = Writer(bus.outbox.open("g", "r", 1), "abcdefgh", CREDIT // 2)
    writer.write()
    assert writer.left == list("cdefgh")
    await until(lambda: len(bus.text) == CREDIT)
    incoming.consumed(CREDIT // 2)
    await until(lambda: writer.left == list("defgh"))
    assert writer.paused
    for _ in range(7):
        await until(lambda: writer.paused or not writer.left)
        incoming.consumed(CREDIT // 2)
        await asyncio.sleep(0)
    await until(lambda: len(bus.text) == 4 * CREDIT)
    assert bus.text == "".join(letter * (CREDIT // 2) for letter in "abcdefgh")


async def test_a_producer_that_is_attached_too_late_is_paused_at_once(bus: Bus) -> None:
    bus.inbox.open("w", "r", 1)
    sink = bus.outbox.open("g", "r", 1)
    sink.text("x" * CREDIT)
    assert Writer(sink, "", 1).paused


async def test_a_pump_waits_for_its_reader_or_the_end(bus: Bus) -> None:
    incoming = bus.inbox.open("w", "r", 1)
    sink = bus.outbox.open("g", "r", 1)
    await sink.ready()
    sink.text("x" * 2 * CREDIT)
    ready = asyncio.create_task(sink.ready())
    await until(lambda: len(bus.text) == CREDIT)
    incoming.consumed(CREDIT)
    await until(lambda: len(bus.text) == 2 * CREDIT)
    assert not ready.done()
    incoming.consumed(CREDIT)
    await ready
    sink.text("x" * CREDIT)
    ready = asyncio.create_task(sink.ready())
    await asyncio.sleep(0)
    assert not ready.done()
    sink.finish(pb.Cancelled(reason="client_gone"))
    await ready


@virtual
async def test_a_credit_that_was_lost_is_asked_for_again() -> None:
    bus = Bus()
    incoming = bus.inbox.open("w", "r", 1)
    sink = bus.outbox.open("g", "r", 1)
    sink.text("x" * CREDIT)
    await until(lambda: len(bus.text) == CREDIT)
    bus.up = False
    incoming.consumed(CREDIT)
    await asyncio.sleep(0.01)  # the report is sent into nothing
    bus.up = True
    await sink.ready()


async def test_what_is_written_after_the_end_is_dropped(bus: Bus) -> None:
    sink = bus.outbox.open("g", "r", 1)
    sink.text("a")
    sink.finish(pb.Done())
    sink.text("b")
    sink.event(pb.ReplyEvent(tool_call=pb.ToolCall(id="c")))
    sink.finish(pb.Error(code="late"))
    await bus.ended.wait()
    await bus.outbox.flushed()
    assert bus.text == "a"
    assert bus.kinds == ["text", "done"]


async def test_what_was_sent_into_a_dead_link_is_sent_again(bus: Bus) -> None:
    reply = bus.outbox.open("g", "r", 1)
    reply.text("a")
    await until(lambda: bus.text)
    bus.cut()
    reply.text("b")
    reply.finish(pb.Done())
    assert bus.text == "a"
    bus.mend()
    await bus.ended.wait()
    assert bus.text == "ab"


async def test_a_gateway_that_does_not_answer_is_noticed_and_forgotten(bus: Bus) -> None:
    reply = bus.outbox.open("g", "r", 1)
    bus.up = False
    reply.text("a")
    assert bus.outbox.silent_gateways(longer_than=60) == []
    await asyncio.sleep(0.05)
    assert bus.outbox.silent_gateways(longer_than=0.01) == ["g"]
    bus.outbox.give_up("g")
    assert bus.outbox.gateways() == []
    await bus.outbox.flushed()


async def begun() -> tuple[Bus, Sink]:
    """A bus, and a reply that its gateway waits for and has heard the first letter of."""
    bus = Bus()
    reply = bus.outbox.open("g", "r", 1)
    bus.inbox.open("w", "r", 1)
    reply.text("a")
    await asyncio.sleep(1)
    return bus, reply


@virtual
async def test_a_gateway_that_was_given_up_and_is_back_soon_gets_the_rest() -> None:
    bus, reply = await begun()
    bus.up = False
    reply.text("b")
    await asyncio.sleep(1)
    bus.outbox.give_up("g")
    reply.finish(pb.Done())
    await asyncio.sleep(LAST_WORDS - 0.5)
    assert bus.outbox.gateways() == []
    bus.up = True
    bus.inbox.link_up()
    await asyncio.sleep(LAST_WORDS)  # in which the lane would have been forgotten
    assert bus.text == "ab"
    assert bus.kinds[-1] == "done"
    assert bus.outbox.gateways() == ["g"]
    assert not bus.broken


@virtual
async def test_a_gateway_that_is_back_late_is_told_that_its_replies_are_lost() -> None:
    """Otherwise it would wait for them until they are overdue: nothing else is sent by an idle worker."""
    bus, reply = await begun()
    bus.up = False
    bus.outbox.give_up("g")
    await asyncio.sleep(LAST_WORDS + 1)
    reply.finish(pb.Cancelled())  # its run took that long to end
    bus.up = True
    bus.inbox.link_up()
    await asyncio.sleep(0.1)
    assert bus.broken == 1
    assert bus.text == "a"
    before = bus.batches
    await asyncio.sleep(100)
    assert bus.batches == before
    assert bus.broken == 1


@virtual
async def test_a_request_of_a_gateway_that_was_given_up_as_silent_is_answered() -> None:
    """Its silence is over, and what filled the lane goes out at once."""
    bus = Bus()
    bus.up = False
    reply = bus.outbox.open("g", "r", 1)
    for _ in range(30):
        reply.text("a")
        await asyncio.sleep(0.5)
    assert bus.outbox.silent_gateways(longer_than=10) == ["g"]
    bus.outbox.give_up("g")
    reply.finish(pb.Cancelled())
    await asyncio.sleep(1)
    bus.up = True
    bus.outbox.open("g", "r2", 1).text("b")
    assert not bus.outbox.silent_gateways(longer_than=10)
    await asyncio.sleep(0.1)
    assert bus.text.lstrip("a") == "b"


@virtual
async def test_a_gateway_is_not_forgotten_while_the_workers_own_link_is_away() -> None:
    """Its ack on its return is lost then, and it sends no other."""
    bus, reply = await begun()
    bus.up = False
    bus.outbox.give_up("g")
    reply.finish(pb.Cancelled())
    bus.outbox.link_down()
    await asyncio.sleep(3 * LAST_WORDS)
    bus.mend()
    await asyncio.sleep(1)
    assert bus.kinds == ["text", "cancelled"]


@virtual
async def test_any_word_for_a_forgotten_lane_is_answered_but_that_nothing_is_waited_for() -> None:
    """A gateway that stood still reads late what was sent to it, and acknowledges that without any credit."""
    bus, _ = await begun()
    ack = bus.acks[-1]
    assert not ack.credits
    bus.outbox.give_up("g")
    await asyncio.sleep(LAST_WORDS + 1)
    bus.outbox.acknowledge(ack)
    await asyncio.sleep(1)
    assert bus.broken == 1


@virtual
async def test_acks_in_a_false_epoch_do_not_have_a_gateway_given_up_at_every_look() -> None:
    bus = Bus()
    bus.up = False
    bus.outbox.open("g", "r", 1).text("a")
    await asyncio.sleep(16)
    given_up = 0
    for _ in range(300):
        for gateway_id in bus.outbox.silent_gateways(longer_than=15):
            bus.outbox.give_up(gateway_id)
            given_up += 1
        bus.outbox.acknowledge(pb.ChunkAck(gateway_id="g", epoch=1))
        await asyncio.sleep(0.2)
    assert 1 < given_up <= 5


@virtual
async def test_a_gateway_that_waits_for_nothing_is_told_nothing() -> None:
    bus = Bus()
    bus.outbox.open("g", "r", 1).finish(pb.Done())
    await asyncio.sleep(1)
    bus.outbox.give_up("g")
    await asyncio.sleep(LAST_WORDS + 1)
    before = bus.batches
    bus.inbox.link_up()
    await asyncio.sleep(10)
    assert bus.batches == before
    assert bus.outbox.counts().lanes == 0


async def test_an_idle_lane_sends_nothing(bus: Bus) -> None:
    reply = bus.outbox.open("g", "r", 1)
    reply.finish(pb.Done())
    await bus.outbox.flushed()
    before = bus.batches
    await asyncio.sleep(0.05)
    assert bus.batches == before


@virtual
async def test_what_is_written_while_the_lanes_are_held_goes_in_one_batch() -> None:
    bus = Bus()
    clock = asyncio.get_running_loop().time
    replies = [bus.outbox.open("g", f"r{number}", 1) for number in range(3)]
    for reply in replies:
        reply.text("a")
    await until(lambda: bus.text == "aaa")
    before = bus.batches
    last = slot(clock(), INTERVAL)
    await until(lambda: slot(clock(), INTERVAL) > last)
    bus.outbox.hold()
    for reply in replies:
        reply.text("b")
        reply.text("c")
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
        reply.text("a")
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
    reply.text("a")
    await until(lambda: bus.text == "a")
    bus.outbox.hold()
    reply.text("b")
    bus.cut()
    bus.outbox.release(at_once)
    await asyncio.sleep(0.02)
    assert bus.text == "a"
    bus.mend()
    await until(lambda: bus.text == "ab")


async def test_a_link_that_comes_back_while_the_lanes_are_held_is_used(bus: Bus) -> None:
    reply = bus.outbox.open("g", "r", 1)
    bus.cut()
    reply.text("a")
    bus.outbox.hold()
    bus.mend()
    bus.outbox.release(at_once=False)
    await until(lambda: bus.text == "a")


async def test_without_an_interval_everything_is_sent_in_its_own_turn_of_the_loop() -> None:
    bus = Bus(interval=0)
    reply = bus.outbox.open("g", "r", 1)
    for number in range(1, 6):
        reply.text("a")
        await until(lambda: len(bus.text) == number)  # noqa: B023
        assert bus.batches == number
    reply.finish(pb.Done())
    await bus.ended.wait()
    await bus.outbox.flushed()


@virtual
async def test_long_arguments_of_a_tool_call_are_cut_and_obey_the_credit() -> None:
    bus = Bus()
    incoming = bus.inbox.open("w", "r", 1)
    sink = bus.outbox.open("g", "r", 1)
    sink.event(pb.ReplyEvent(tool_call=pb.ToolCall(id="c", name="f", arguments="x" * 2 * CREDIT, index=3)))
    assert not sink.writable
    await until(lambda: len(bus.arguments) >= CREDIT - SLICE)
    assert len(bus.arguments) <= CREDIT + SLICE
    incoming.consumed(2 * CREDIT)
    await sink.ready()
    await until(lambda: bus.arguments == "x" * 2 * CREDIT)


async def test_an_event_that_no_gateway_accepts_is_refused(bus: Bus) -> None:
    sink = bus.outbox.open("g", "r", 1)
    with pytest.raises(EventTooLarge):
        sink.event(pb.ReplyEvent(logprobs="[" + "1," * 2 * CREDIT + "1]"))
    assert not sink.finished


class Lossy(Bus):
    """Loses batches and acks by chance; several clients read at their own pace."""

    def __init__(self, chance: random.Random, loss: float, replies: int) -> None:
        super().__init__()
        self._chance = chance
        self._loss = loss
        self.incoming = [self.inbox.open("w", f"r{number}", 1) for number in range(replies)]
        self.texts = [""] * replies
        self.unread = [0] * replies
        self.ends: list[str | None] = [None] * replies

    def to_gateway(self, gateway_id: str, batch: pb.ChunkBatch) -> None:
        if self._chance.random() < self._loss:
            return
        for event in self.inbox.receive(pb.ChunkBatch.FromString(batch.SerializeToString()))[0]:
            number = int(event.request_id[1:])
            assert self.ends[number] is None
            self.texts[number] += event.text
            self.unread[number] += payload_bytes(event)
            if (kind := event.WhichOneof("event")) in TERMINAL:
                self.ends[number] = kind
                self.incoming[number].close()

    def to_worker(self, ack: pb.ChunkAck, worker_id: str) -> None:
        if self._chance.random() >= self._loss:
            self.outbox.acknowledge(ack)

    async def read(self, number: int) -> None:
        while self.ends[number] is None:
            await asyncio.sleep(self._chance.choice((0.0, 0.01, 0.3, 3.0)))
            size, self.unread[number] = self.unread[number], 0
            self.incoming[number].consumed(size)


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32), loss=st.sampled_from([0.0, 0.1, 0.5]), replies=st.integers(1, 5))
@virtual
async def test_every_reply_comes_whole_and_ends_whatever_is_lost(seed: int, loss: float, replies: int) -> None:
    chance = random.Random(seed)
    bus = Lossy(chance, loss, replies)
    sinks = [bus.outbox.open("g", f"r{number}", 1) for number in range(replies)]
    letters = ["".join(chance.choices("abcdefgh", k=chance.randrange(1, 12))) for _ in sinks]
    sizes = [chance.choice((1, 1000, CREDIT // 3, CREDIT)) for _ in sinks]

    async def write(number: int) -> None:
        writer = Writer(sinks[number], letters[number], sizes[number])
        while writer.left:
            if not writer.paused:
                writer.write()
            await asyncio.sleep(chance.choice((0.0, 0.005, 0.4)))
        await sinks[number].ready()
        sinks[number].finish(pb.Done())

    async with asyncio.timeout(1000), asyncio.TaskGroup() as group:
        for number in range(replies):
            group.create_task(write(number))
            group.create_task(bus.read(number))
    assert bus.ends == ["done"] * replies
    assert bus.texts == ["".join(letter * size for letter in text) for text, size in zip(letters, sizes, strict=True)]
    await bus.outbox.flushed()
