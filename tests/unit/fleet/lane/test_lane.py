"""The lane over a bus that drops, repeats, reorders and forgets: text comes out byte-exact, or the loss is reported."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from fleet.lane import CREDIT, IN_FLIGHT, SLICE, LaneReceiver, LaneSender, OutgoingReply
from fleet.lane.sender import RESEND_LAST
from protos import chat_pb2 as pb
from tests.unit.fleet.lane.sending import FLUSH, HIGH, ack, make_sender

TEXTS = st.text(min_size=1, max_size=30) | st.sampled_from(["x" * 3000, "é" * (SLICE + 1), "y" * (CREDIT + 1)])
OVERSHOOT = 4 * SLICE
"""Bytes by which the last piece that is sent may exceed the credit."""


class LaneMachine(RuleBasedStateMachine):
    """One worker, one gateway, and everything that can happen between them."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.epoch = 1
        self.requests = 0
        self.written: dict[str, str] = {}
        self.read: dict[str, str] = {}
        self.positions: dict[str, int] = {}
        self.consumed: dict[str, int] = {}
        self.read_bytes: dict[str, int] = {}
        self.ends: dict[str, int] = {}
        self.lost: set[str] = set()
        self.live: list[OutgoingReply] = []
        self.to_gateway: list[bytes] = []
        self.to_worker: list[bytes] = []
        self.owes_ack = False

    @initialize()
    def start(self) -> None:
        self.sender = LaneSender("w", self.epoch, FLUSH)
        self.receiver = LaneReceiver()

    @rule()
    def open_stream(self) -> None:
        self.requests += 1
        name = f"r{self.requests}"
        self.live.append(self.sender.open(name, 1))
        self.written[name] = self.read[name] = ""
        self.ends[name] = self.positions[name] = self.consumed[name] = self.read_bytes[name] = 0

    @rule(text=TEXTS, pick=st.integers(0, 9))
    def write(self, text: str, pick: int) -> None:
        if self.live:
            stream = self.live[pick % len(self.live)]
            self.sender.write(stream, "text", text)
            self.written[stream.request_id] += text
            self.flush()

    @rule(pick=st.integers(0, 9))
    def finish(self, pick: int) -> None:
        if self.live:
            stream = self.live.pop(pick % len(self.live))
            self.sender.put(stream, pb.ReplyEvent(done=pb.Done(finish_reason="stop")))
            self.flush()

    @rule(seconds=st.sampled_from([0.001, FLUSH, 0.5, 1.0, 10.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.flush()

    @rule(pick=st.integers(0, 9), keep=st.booleans())
    def arrive_at_gateway(self, pick: int, keep: bool) -> None:
        """Any message may arrive next, and may arrive again."""
        if self.to_gateway:
            index = pick % len(self.to_gateway)
            self.deliver(self.to_gateway[index] if keep else self.to_gateway.pop(index))

    @rule()
    def the_delayed_ack_goes_out(self) -> None:
        if self.owes_ack:
            self.answer()

    @rule(pick=st.integers(0, 9), part=st.sampled_from([0.1, 1.0]))
    def a_client_reads(self, pick: int, part: float) -> None:
        if self.read:
            name = list(self.read)[pick % len(self.read)]
            self.consumed[name] += int((self.read_bytes[name] - self.consumed[name]) * part)
            self.answer()

    @rule(pick=st.integers(0, 9), keep=st.booleans())
    def arrive_at_worker(self, pick: int, keep: bool) -> None:
        if self.to_worker:
            index = pick % len(self.to_worker)
            self.acknowledge(self.to_worker[index] if keep else self.to_worker.pop(index))

    @rule(pick=st.integers(0, 9))
    def drop(self, pick: int) -> None:
        if self.to_gateway:
            self.to_gateway.pop(pick % len(self.to_gateway))
        if self.to_worker:
            self.to_worker.pop(pick % len(self.to_worker))

    @rule()
    def lose_the_link_and_come_back(self) -> None:
        self.to_gateway.clear()
        self.to_worker.clear()
        self.sender.relinked(self.now)
        self.flush()

    @rule()
    def the_worker_begins_a_new_lane(self) -> None:
        self.lost.update(stream.request_id for stream in self.live)
        self.lost.update(name for name, ends in self.ends.items() if not ends)
        self.live.clear()
        self.epoch += 1
        self.sender = LaneSender("w", self.epoch, FLUSH)

    @rule()
    def the_gateway_forgets_the_lane(self) -> None:
        """It does so when it takes the worker for gone; it has ended the worker's replies then."""
        self.lost.update(name for name, ends in self.ends.items() if not ends)
        self.receiver = LaneReceiver()

    def flush(self) -> None:
        batches = self.sender.due(self.now)
        assert len({batch.number for batch in batches if batch.number}) <= IN_FLIGHT
        assert len(self.sender._unacked) <= IN_FLIGHT
        self.to_gateway.extend(batch.SerializeToString() for batch in batches)

    def deliver(self, message: bytes) -> None:
        arrival = self.receiver.receive(pb.ChunkBatch.FromString(message), self.now)
        if arrival.broken:
            # As the gateway does: what had begun ends in an error. Replies of the new lane have not begun here.
            self.lost.update(name for name, text in self.read.items() if text and not self.ends[name])
        for chunk in arrival.events:
            if chunk.request_id in self.lost or self.ends[chunk.request_id]:
                continue  # as the gateway does with what nobody waits for
            self.positions[chunk.request_id] += 1
            assert chunk.position == self.positions[chunk.request_id]
            self.check(chunk)
        if arrival.answer:
            self.owes_ack = True
            if not pb.ChunkBatch.FromString(message).quiet:
                self.answer()

    def check(self, event: pb.ReplyEvent) -> None:
        """What is read is how what was written begins, within the credit, and with one end."""
        name = event.request_id
        assert self.written[name].startswith(event.text, len(self.read[name]))
        self.read[name] += event.text
        self.read_bytes[name] += len(event.text.encode())
        self.ends[name] += event.WhichOneof("event") == "done"
        assert self.ends[name] <= 1
        assert self.read_bytes[name] - self.consumed[name] < CREDIT + OVERSHOOT

    def answer(self) -> None:
        self.owes_ack = False
        ack = pb.ChunkAck(
            gateway_id="g",
            epoch=self.receiver.epoch,
            received=self.receiver.received,
            credits=[pb.Credit(request_id=name, attempt=1, consumed=size) for name, size in self.consumed.items()],
        )
        self.to_worker.append(ack.SerializeToString())

    def acknowledge(self, message: bytes) -> None:
        self.sender.acknowledge(pb.ChunkAck.FromString(message), self.now)
        self.flush()

    def teardown(self) -> None:
        """The bus behaves again: everything that is not lost must come out whole."""
        while self.live:
            self.finish(0)
        for _ in range(1000):
            if self.sender.idle and not self.sender.replies:
                break
            self.now += 10
            self.flush()
            while self.to_gateway:
                self.deliver(self.to_gateway.pop(0))
            self.consumed = dict(self.read_bytes)
            self.answer()
            while self.to_worker:
                self.acknowledge(self.to_worker.pop(0))
        assert self.sender.idle
        for name, text in self.written.items():
            if name not in self.lost:
                assert self.read[name] == text, (len(self.read[name]), len(text))
                assert self.ends[name] == 1


LaneMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=50)
TestLane = LaneMachine.TestCase


def test_a_nonsense_epoch_stops_a_lane_for_no_longer_than_its_resend_time() -> None:
    sender, stream = make_sender()
    receiver = LaneReceiver()
    receiver.receive(pb.ChunkBatch(epoch=HIGH, number=1, base=1), 0.0)
    sender.write(stream, "text", "a")
    sender.put(stream, pb.ReplyEvent(done=pb.Done()))
    now, text = 0.0, ""
    while not sender.idle:
        for batch in sender.due(now):
            arrival = receiver.receive(batch, now)
            text += "".join(chunk.text for chunk in arrival.events)
            if arrival.answer:
                sender.acknowledge(ack(receiver.received), now)
        now += 0.1
    assert text == "a"
    assert now <= RESEND_LAST + 0.5  # steps of 0.1 s, and the last one is past the end


@pytest.mark.parametrize("received", [2, HIGH, 2**64 - 1])
def test_an_ack_of_what_was_never_sent_begins_a_later_epoch_and_loses_nothing(received: int) -> None:
    sender, stream = make_sender()
    receiver = LaneReceiver()
    sender.write(stream, "text", "a")
    sender.due(0.0)
    sender.acknowledge(ack(received), 0.1)
    assert not sender.idle
    (batch,) = sender.due(0.1)
    assert (batch.epoch, batch.number, batch.base) == (8, 1, 1)
    assert receiver.receive(batch, 0.1).events[0].text == "a"
    sender.acknowledge(ack(receiver.received, epoch=receiver.epoch), 0.2)
    assert sender.idle


NUMBERS = st.integers(0, 20) | st.sampled_from([HIGH, 2**64 - 1])
NONSENSE = st.builds(pb.ChunkBatch, epoch=NUMBERS, number=NUMBERS, base=NUMBERS, quiet=st.booleans())
CLAIMS = st.builds(
    lambda epoch, received, consumed, complete: pb.ChunkAck(
        epoch=epoch,
        received=received,
        complete=complete,
        credits=[pb.Credit(request_id="r", attempt=1, consumed=consumed)],
    ),
    NUMBERS,
    NUMBERS,
    NUMBERS,
    st.booleans(),
)


@given(batches=st.lists(NONSENSE, max_size=6), acks=st.lists(CLAIMS, max_size=6))
def test_after_any_nonsense_a_lane_is_well_within_two_resend_times(
    batches: list[pb.ChunkBatch], acks: list[pb.ChunkAck]
) -> None:
    """What somebody slipped in before; a reply that begins afterwards comes out whole."""
    sender = LaneSender("w", 7, FLUSH)
    receiver = LaneReceiver()
    for batch in batches:
        receiver.receive(batch, 0.0)
    for claim in acks:
        sender.acknowledge(claim, 0.0)
    stream = sender.open("s", 1)
    sender.write(stream, "text", "hello")
    sender.put(stream, pb.ReplyEvent(done=pb.Done()))
    now, text = 2.0, ""
    while not sender.idle:
        assert now < 2.0 + 2 * RESEND_LAST
        for batch in sender.due(now):
            arrival = receiver.receive(pb.ChunkBatch.FromString(batch.SerializeToString()), now)
            text = "".join(chunk.text for chunk in arrival.events) or text
            if arrival.answer:
                sender.acknowledge(pb.ChunkAck(epoch=receiver.epoch, received=receiver.received), now)
        now += 0.1
    assert text == "hello"
