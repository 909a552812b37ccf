"""The lane over a bus that drops, repeats, reorders and forgets: text comes out byte-exact, or the loss is reported."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from fleet.lane import (
    CREDIT,
    IN_FLIGHT,
    QUIET,
    SLICE,
    WINDOW,
    EventTooLarge,
    LaneReceiver,
    LaneSender,
    OutgoingReply,
    payload_bytes,
)
from fleet.lane.outbox import LAST_WORDS
from fleet.lane.reply import EVENT_BYTES, LARGEST_EVENT
from fleet.lane.sender import BATCH_BYTES, GRACE, RESEND_LAST
from fleet.lane.slots import EARLY
from protos import chat_pb2 as pb

FLUSH = 0.01
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


LaneMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
TestLane = LaneMachine.TestCase


def make_sender() -> tuple[LaneSender, OutgoingReply]:
    sender = LaneSender("w", 7, FLUSH)
    return sender, sender.open("r", 1)


def ack(received: int, *, epoch: int = 7, consumed: int = 0) -> pb.ChunkAck:
    credit = [pb.Credit(request_id="r", attempt=1, consumed=consumed)] if consumed else []
    return pb.ChunkAck(gateway_id="g", epoch=epoch, received=received, credits=credit)


def test_a_first_token_goes_out_at_once_and_the_next_waits_for_the_flush_interval() -> None:
    sender, stream = make_sender()
    sender.write(stream, "text", "a")
    assert [len(batch.events) for batch in sender.due(0.0)] == [1]
    sender.write(stream, "text", "b")
    assert sender.due(0.001) == []
    assert sender.wake_at(0.001) == pytest.approx(FLUSH - EARLY + GRACE)
    assert sender.due(FLUSH)[0].events[0].text == "b"


def test_what_comes_in_a_slot_that_had_no_batch_waits_for_nothing() -> None:
    sender, stream = make_sender()
    sender.write(stream, "text", "a")
    sender.due(0.0)
    sender.write(stream, "text", "b")
    assert sender.wake_at(FLUSH) == FLUSH
    assert sender.due(FLUSH)
    sender.write(stream, "text", "c")
    assert sender.due(FLUSH * 1.5) == []


def test_a_chunk_says_how_many_of_the_models_pieces_it_holds() -> None:
    sender, stream = make_sender()
    sender.write(stream, "text", "ab", 2)
    sender.write(stream, "text", "c")
    sender.write(stream, "reasoning", "d", 4)
    assert [chunk.tokens for chunk in sender.due(0.0)[0].events] == [3, 4]


def test_a_second_streams_first_token_does_not_wait_for_the_first_ones_interval() -> None:
    sender, stream = make_sender()
    sender.write(stream, "text", "a")
    sender.due(0.0)
    other = sender.open("s", 1)
    sender.write(other, "text", "b")
    assert sender.due(0.001)[0].events[0].request_id == "s"


def test_neighbours_of_one_kind_are_merged_and_kinds_are_not() -> None:
    sender, stream = make_sender()
    for kind, text in (("reasoning", "h"), ("reasoning", "m"), ("text", "a"), ("text", "b")):
        sender.write(stream, kind, text)  # type: ignore[arg-type]
    sender.put(stream, pb.ReplyEvent(done=pb.Done()))
    chunks = sender.due(0.0)[0].events
    assert [(c.WhichOneof("event"), c.text or c.reasoning) for c in chunks] == [
        ("reasoning", "hm"),
        ("text", "ab"),
        ("done", ""),
    ]


def send(sender: LaneSender, stream: OutgoingReply, now: float) -> list[pb.ChunkBatch]:
    """Write one character, and flush."""
    sender.write(stream, "text", "x")
    return sender.due(now)


def test_no_more_than_the_window_is_sent_without_an_ack() -> None:
    sender, stream = make_sender()
    sent = [batch for step in range(10) for batch in send(sender, stream, step * 0.09)]
    assert [batch.quiet for batch in sent] == [True] * QUIET + [False] * WINDOW
    sender.acknowledge(ack(QUIET + 1), 0.9)
    (merged,) = sender.due(0.9)
    assert merged.events[0].text == "x" * (10 - IN_FLIGHT)


def test_on_a_quick_bus_few_batches_ask_for_an_ack() -> None:
    sender, stream = make_sender()
    asked = []
    for number in range(1, 25):
        (batch,) = send(sender, stream, number * 0.1)
        if not batch.quiet:
            asked.append(number)
            sender.acknowledge(ack(number), number * 0.1 + 0.01)
    assert asked == [8, 16, 24]


def test_while_an_ack_is_overdue_every_batch_asks_and_the_window_counts() -> None:
    sender, stream = make_sender()
    for step in range(IN_FLIGHT):
        send(sender, stream, step * 0.1)
    for received in range(QUIET + 1, QUIET + 10):
        now = 0.2 + received * 0.1
        sender.acknowledge(ack(received), now)
        (batch,) = send(sender, stream, now)
        assert not batch.quiet
        assert batch.number - received == WINDOW


def test_what_is_sent_again_asks_for_an_ack() -> None:
    sender, stream = make_sender()
    assert send(sender, stream, 0.0)[0].quiet
    assert not sender.due(1.0)[0].quiet


def test_an_overdue_ack_makes_the_batches_go_again_with_growing_pauses() -> None:
    sender, stream = make_sender()
    sender.write(stream, "text", "a")
    sender.due(0.0)
    times = []
    for tenth in range(1, 200):
        now = tenth / 10
        if sender.due(now):
            times.append(now)
    assert times == [1.0, 2.0, 4.0, 8.0, 16.0]
    assert sender.silence(19.9) == 19.9


def test_a_reply_without_credit_asks_until_the_lost_credit_comes() -> None:
    sender, reply = make_sender()
    sender.write(reply, "text", "x" * CREDIT)
    assert not reply.writable
    sender.block(reply, 0.0)
    sender.due(0.0)
    assert sender.acknowledge(ack(1), 0.0) == []
    probe = sender.due(1.0)
    assert [batch.number for batch in probe] == [0]
    assert sender.acknowledge(ack(1, consumed=10), 1.1) == [reply]
    assert reply.credit == 10
    assert sender.wake_at(9.9) == float("inf")


def test_a_lost_credit_is_asked_for_while_the_other_replies_of_the_lane_go_on() -> None:
    sender, reply = make_sender()
    busy = sender.open("s", 1)
    sender.write(reply, "text", "x" * CREDIT)
    sender.block(reply, 0.0)
    sender.due(0.0)
    sender.acknowledge(ack(1), 0.01)
    probes = 0
    for number in range(2, 50):
        now = number / 10
        batches = send(sender, busy, now)
        probes += sum(batch.number == 0 for batch in batches)
        assert sender.silence(now) < 0.2
        sender.acknowledge(ack(number), now + 0.01)
    assert probes == 3  # after 1, 2 and 4 seconds


def test_an_answer_about_credit_repeats_nothing_that_was_sent_after_the_question() -> None:
    sender, reply = make_sender()
    busy = sender.open("s", 1)
    sender.write(reply, "text", "x" * CREDIT)
    sender.block(reply, 0.0)
    sender.due(0.0)
    sender.acknowledge(ack(1), 0.0)
    assert [batch.number for batch in sender.due(1.0)] == [0]
    send(sender, busy, 1.1)
    complete = ack(1)
    complete.complete = True
    sender.acknowledge(complete, 1.2)
    assert sender.due(1.2) == []
    sender.acknowledge(complete, 1.3)  # another one was not asked for: the receiver was away
    assert [batch.number for batch in sender.due(1.3)] == [2]


def text_of(batches: list[pb.ChunkBatch]) -> str:
    return "".join(event.text for batch in batches for event in batch.events)


def test_what_exceeds_the_credit_is_sent_when_the_client_has_read() -> None:
    sender, reply = make_sender()
    for letter in "abc":
        sender.write(reply, "text", letter * CREDIT)
    sender.put(reply, pb.ReplyEvent(done=pb.Done()))
    assert text_of(sender.due(0.0)) == "a" * CREDIT
    assert sender.due(1.0)[0].number == 1  # only what was sent before
    assert sender.acknowledge(ack(1, consumed=1), 1.0) == []
    assert text_of(sender.due(1.0)) == "b" * SLICE
    sender.acknowledge(ack(2, consumed=CREDIT + SLICE), 2.0)
    assert text_of(sender.due(2.0)) == "b" * 3 * SLICE + "c" * SLICE
    sender.acknowledge(ack(3, consumed=2 * CREDIT + SLICE), 3.0)
    (last,) = sender.due(3.0)
    assert last.events[-1].HasField("done")
    assert sender.replies == []


def test_a_cancelled_reply_drops_what_waits_for_credit_and_leaves() -> None:
    sender, reply = make_sender()
    sender.write(reply, "text", "a" * 3 * CREDIT)
    sender.due(0.0)
    sender.put(reply, pb.ReplyEvent(cancelled=pb.Cancelled(reason="client_gone")))
    (batch,) = sender.due(1.0)[1:]
    assert [(event.WhichOneof("event"), event.position) for event in batch.events] == [("cancelled", 2)]
    assert sender.replies == []


def test_events_have_positions_without_gaps_and_accepted_has_none() -> None:
    sender, reply = make_sender()
    sender.put(reply, pb.ReplyEvent(accepted=pb.Accepted()))
    sender.write(reply, "text", "a")
    sender.write(reply, "text", "b")
    sender.put(reply, pb.ReplyEvent(tool_result=pb.ToolResult(call_id="c")))
    sender.due(0.0)
    sender.write(reply, "reasoning", "c")
    sender.put(reply, pb.ReplyEvent(done=pb.Done()))
    batches = [batch for batch in sender.due(FLUSH) if batch.number == 2]
    assert [event.position for batch in sender._unacked for event in batch.events] == [0, 1, 2, 3, 4]
    assert [event.WhichOneof("event") for event in batches[0].events] == ["reasoning", "done"]


def test_an_event_that_no_gateway_accepts_is_refused() -> None:
    sender, reply = make_sender()
    with pytest.raises(EventTooLarge):
        sender.put(reply, pb.ReplyEvent(custom=pb.Custom(json="x" * LARGEST_EVENT)))
    assert sender.idle


def test_a_complete_ack_says_that_the_receiver_was_away_so_all_is_sent_again_at_once() -> None:
    sender, stream = make_sender()
    sender.write(stream, "text", "a")
    sender.due(0.0)
    sender.acknowledge(pb.ChunkAck(gateway_id="g", epoch=7, received=0, complete=True), 0.1)
    assert [batch.number for batch in sender.due(0.1)] == [1]


def test_an_ack_of_another_epoch_changes_nothing() -> None:
    sender, stream = make_sender()
    sender.write(stream, "text", "a")
    sender.due(0.0)
    sender.acknowledge(ack(1, epoch=6, consumed=1), 0.0)
    assert not sender.idle
    assert CREDIT - stream.credit == 1


def test_a_finished_reply_is_not_kept() -> None:
    sender, reply = make_sender()
    sender.put(reply, pb.ReplyEvent(done=pb.Done()))
    sender.due(0.0)
    assert sender.replies == []
    sender.acknowledge(ack(1), 0.0)
    assert sender.idle
    assert sender.wake_at(9.9) == float("inf")


def test_a_new_receiver_takes_up_where_the_sender_is() -> None:
    receiver = LaneReceiver()
    arrival = receiver.receive(pb.ChunkBatch(epoch=3, number=9, base=9, events=[pb.ReplyEvent(text="a")]), 0.0)
    assert not arrival.broken
    assert len(arrival.events) == 1
    assert receiver.received == 9


def test_batches_that_can_never_come_are_reported() -> None:
    receiver = LaneReceiver()
    receiver.receive(pb.ChunkBatch(epoch=3, number=1, base=1), 0.0)
    assert receiver.receive(pb.ChunkBatch(epoch=3, number=5, base=5), 0.0).broken
    assert receiver.received == 5


def test_an_older_lane_is_not_answered() -> None:
    receiver = LaneReceiver()
    receiver.receive(pb.ChunkBatch(epoch=3, number=1, base=1), 0.0)
    late = receiver.receive(pb.ChunkBatch(epoch=2, number=2, base=1, events=[pb.ReplyEvent(text="a")]), 0.0)
    assert (late.events, late.answer) == ([], False)


HIGH = 2**63


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


def test_what_a_lane_repeats_that_was_given_up_does_not_bring_it_back() -> None:
    receiver = LaneReceiver()
    old = pb.ChunkBatch(epoch=1, number=1, base=1)
    receiver.receive(old, 0.0)
    receiver.receive(pb.ChunkBatch(epoch=2, number=1, base=1), 0.1)
    for now in (0.2, 1.0, 2.0, 4.0, LAST_WORDS):
        assert not receiver.receive(old, now).answer
    assert receiver.epoch == 2


def test_a_word_in_the_current_epoch_ends_the_doubt() -> None:
    receiver = LaneReceiver()
    for now in range(0, 60, 5):
        assert receiver.receive(pb.ChunkBatch(epoch=2, number=0, base=1), now).answer
        assert not receiver.receive(pb.ChunkBatch(epoch=1, number=1, base=1), now + 1).answer


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


def test_an_ill_gateway_cannot_make_a_worker_send_again_and_again() -> None:
    sender, stream = make_sender()
    sender.write(stream, "text", "a")
    sender.due(0.0)
    batches = 0
    for step in range(100):
        sender.acknowledge(ack(HIGH, epoch=sender.epoch), step * 0.01)
        batches += len(sender.due(step * 0.01))
    assert batches == 1


def test_a_batch_below_its_own_base_is_nonsense() -> None:
    receiver = LaneReceiver()
    receiver.receive(pb.ChunkBatch(epoch=3, number=1, base=1), 0.0)
    assert not receiver.receive(pb.ChunkBatch(epoch=3, number=2, base=HIGH), 0.0).answer
    assert receiver.received == 1


def test_large_batches_are_not_held_early() -> None:
    receiver = LaneReceiver()
    receiver.receive(pb.ChunkBatch(epoch=3, number=1, base=1), 0.0)
    large = pb.ChunkBatch(epoch=3, number=3, base=1, events=[pb.ReplyEvent(text="x" * 2 * BATCH_BYTES)])
    assert receiver.receive(large, 0.0).answer
    assert not receiver._early
    receiver.receive(pb.ChunkBatch(epoch=3, number=2, base=1), 0.0)
    assert len(receiver.receive(large, 0.0).events) == 1


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


@settings(deadline=None)
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


def test_a_batch_is_cut_where_it_is_full_and_nothing_is_lost() -> None:
    sender, stream = make_sender()
    for number in range(3 * BATCH_BYTES // EVENT_BYTES):
        sender.write(stream, "text" if number % 2 else "reasoning", "x")
    sizes, now, text = [], 0.0, 0
    while not sender.idle:
        for batch in sender.due(now):
            sizes.append(batch.ByteSize())
            text += sum(len(chunk.text or chunk.reasoning) for chunk in batch.events)
            sender.acknowledge(ack(batch.number), now)
        now += FLUSH
    assert text == 3 * BATCH_BYTES // EVENT_BYTES
    assert max(sizes) < BATCH_BYTES


def test_a_batch_of_long_errors_is_cut_where_it_is_full() -> None:
    """The host passes on no batch that is twice as large: such a one would be sent again and again."""
    sender, _ = make_sender()
    for number in range(2000):
        stream = sender.open(f"{number:032}", 1)
        sender.put(stream, pb.ReplyEvent(error=pb.Error(code="model_rejected_request", message="\U0001f600" * 500)))
    sizes, now = [], 0.0
    while not sender.idle:
        for batch in sender.due(now):
            sizes.append(batch.ByteSize())
            sender.acknowledge(ack(batch.number), now)
        now += FLUSH
    assert max(sizes) < BATCH_BYTES + 4096


def test_credit_is_counted_in_bytes_of_utf8() -> None:
    sender, stream = make_sender()
    sender.write(stream, "text", "漢é")
    sender.due(0.0)
    assert CREDIT - stream.credit == 5
    assert payload_bytes(pb.ReplyEvent(text="漢é")) == 5
    assert payload_bytes(pb.ReplyEvent(tool_call=pb.ToolCall(id="1", name="f", arguments="{}"))) == 4 + EVENT_BYTES
    assert payload_bytes(pb.ReplyEvent(done=pb.Done())) == 0
