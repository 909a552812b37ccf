"""The gateway's end of a lane: what is in order, what is lost, and which lane is believed."""

from fleet.lane import LaneReceiver
from fleet.lane.outbox import LAST_WORDS
from fleet.lane.sender import BATCH_BYTES
from protos import chat_pb2 as pb
from tests.unit.fleet.lane.sending import HIGH


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
