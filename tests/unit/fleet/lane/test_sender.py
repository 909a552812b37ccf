"""The worker's end of a lane: what is sent when, what is repeated, and what waits for credit."""

import pytest

from fleet.lane import CREDIT, IN_FLIGHT, QUIET, SLICE, WINDOW
from fleet.lane.reply import EVENT_BYTES
from fleet.lane.sender import BATCH_BYTES, GRACE
from fleet.lane.slots import EARLY
from protos import chat_pb2 as pb
from tests.unit.fleet.lane.sending import FLUSH, HIGH, ack, make_sender, send, text_of


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


def test_a_complete_ack_says_that_the_receiver_was_away_so_all_is_sent_again_at_once() -> None:
    sender, stream = make_sender()
    sender.write(stream, "text", "a")
    sender.due(0.0)
    sender.acknowledge(pb.ChunkAck(gateway_id="g", epoch=7, received=0, complete=True), 0.1)
    assert [batch.number for batch in sender.due(0.1)] == [1]


def test_a_return_that_answers_no_probe_brings_all_again_though_a_probe_was_lost_before() -> None:
    sender, stream = make_sender()
    sender.write(stream, "text", "a")
    sender.due(0.0)
    sender.acknowledge(ack(1), 0.1)
    sender.ask_for_all(0.2)
    assert [batch.number for batch in sender.due(0.2)] == [0]
    sender.write(stream, "text", "b")
    assert [batch.number for batch in sender.due(0.3)] == [2]  # which is lost as well
    sender.acknowledge(pb.ChunkAck(gateway_id="g", epoch=7, received=1, complete=True, asked_at=0.0), 0.4)
    assert [batch.number for batch in sender.due(0.4)] == [2]


def test_what_all_replies_are_is_asked_at_once_and_until_it_is_said() -> None:
    sender, stream = make_sender()
    sender.write(stream, "text", "a")
    sender.due(0.0)
    sender.ask_for_all(0.1)
    assert sender.wake_at(0.1) == 0.1
    assert [(batch.number, batch.asked_at) for batch in sender.due(0.1)] == [(0, 0.1)]
    sender.acknowledge(ack(1), 0.2)
    again = sender.wake_at(0.2)
    assert [(batch.number, batch.asked_at) for batch in sender.due(again)] == [(0, again)]
    assert sender.silence(again) == pytest.approx(again - 0.2)
    sender.acknowledge(pb.ChunkAck(gateway_id="g", epoch=7, received=1, complete=True, asked_at=again), again)
    assert sender.wake_at(again) == float("inf")
    assert sender.silence(again + 9) == 0


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


def test_an_ill_gateway_cannot_make_a_worker_send_again_and_again() -> None:
    sender, stream = make_sender()
    sender.write(stream, "text", "a")
    sender.due(0.0)
    batches = 0
    for step in range(100):
        sender.acknowledge(ack(HIGH, epoch=sender.epoch), step * 0.01)
        batches += len(sender.due(step * 0.01))
    assert batches == 1


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


def test_the_silence_of_an_outage_is_not_the_gateways() -> None:
    sender, reply = make_sender()
    sender.write(reply, "text", "x" * CREDIT)
    sender.due(0.0)
    sender.acknowledge(ack(1), 0.1)
    sender.block(reply, 0.1)
    assert sender.silence(30.1) == pytest.approx(30)
    sender.relinked(30.1)
    assert sender.silence(30.1) == 0.0
    assert sender.silence(31.1) == pytest.approx(1)
