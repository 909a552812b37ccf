"""The gateway's lanes: what is acknowledged when, and which credit is reported."""

import asyncio

from fleet.lane import CREDIT, Inbox
from fleet.lane.inbox import ACK_DELAY, REPORT
from protos import chat_pb2 as pb
from tests.harness.virtual import virtual
from tests.harness.waiting import until
from tests.unit.fleet.lane.bus import Bus


@virtual
async def test_after_a_cut_the_gateway_names_all_that_it_waits_for() -> None:
    bus = Bus()
    bus.inbox.open("w", "r", 1)
    closed = bus.inbox.open("w", "s", 1)
    bus.outbox.open("g", "r", 1).text("a")
    await until(lambda: bus.text)
    bus.cut()
    closed.close()
    bus.mend()
    await until(lambda: bus.acks and bus.acks[-1].complete)
    assert [credit.request_id for credit in bus.acks[-1].credits] == ["r"]


@virtual
async def test_a_reply_opened_while_the_gateway_reports_is_named_too() -> None:
    bus = Bus()
    bus.inbox.open("w", "r", 1)
    bus.inbox.link_up()
    bus.inbox.open("w", "s", 1)
    await until(lambda: bus.acks)
    assert [credit.request_id for credit in bus.acks[-1].credits] == ["r", "s"]


@virtual
async def test_the_answer_to_a_probe_says_when_it_was_asked() -> None:
    acks = Acks()
    for asked_at in (3.5, 2.5):
        acks.inbox.receive(pb.ChunkBatch(worker_id="w", epoch=5, base=1, asked_at=asked_at))
    await until(lambda: len(acks.sent) == 1)
    acks.inbox.link_up()
    await until(lambda: len(acks.sent) == 2)
    acks.receive(1)
    await until(lambda: len(acks.sent) == 3)
    answers = [(ack.complete, ack.asked_at if ack.HasField("asked_at") else None) for _, ack in acks.sent]
    assert answers == [(True, 3.5), (True, 0.0), (False, None)]


@virtual
async def test_batches_that_ask_for_no_ack_get_one_together_soon_after() -> None:
    bus = Bus()
    reply = bus.outbox.open("g", "r", 1)
    for _ in range(3):
        reply.text("a")
        before = bus.batches
        await until(lambda: bus.batches > before)  # noqa: B023
    assert bus.acks == []
    await bus.outbox.flushed()
    assert [ack.received for ack in bus.acks] == [3]


class Acks:
    """An inbox, and what it answers."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, pb.ChunkAck]] = []
        self.inbox = Inbox("g", lambda ack, worker_id: self.sent.append((worker_id, ack)))

    def receive(self, number: int, *events: pb.ReplyEvent, quiet: bool = False) -> tuple[list[pb.ReplyEvent], bool]:
        return self.inbox.receive(
            pb.ChunkBatch(worker_id="w", epoch=5, number=number, base=1, events=events, quiet=quiet)
        )


@virtual
async def test_batches_of_one_turn_of_the_loop_get_one_ack() -> None:
    acks = Acks()
    for number in (1, 2, 3):
        assert acks.receive(number, pb.ReplyEvent(text="a"))[0][0].text == "a"
    await asyncio.sleep(0)
    ((worker_id, ack),) = acks.sent
    assert (worker_id, ack.gateway_id, ack.epoch, ack.received, ack.complete) == ("w", "g", 5, 3, False)


@virtual
async def test_a_quiet_batch_is_acknowledged_later_and_with_a_report_at_once() -> None:
    acks = Acks()
    incoming = acks.inbox.open("w", "r", 1)
    acks.receive(1, quiet=True)
    await asyncio.sleep(ACK_DELAY * 0.9)
    assert not acks.sent
    incoming.consumed(REPORT)
    await asyncio.sleep(0)
    assert [ack.received for _, ack in acks.sent] == [1]
    await asyncio.sleep(2 * ACK_DELAY)
    assert len(acks.sent) == 1


@virtual
async def test_credit_is_reported_when_a_part_of_it_was_consumed() -> None:
    acks = Acks()
    incoming = acks.inbox.open("w", "r", 1)
    incoming.consumed(REPORT - 1)
    await asyncio.sleep(1)
    assert not acks.sent
    incoming.consumed(1)
    incoming.consumed(5)
    await asyncio.sleep(0)
    ((_, ack),) = acks.sent
    assert list(ack.credits) == [pb.Credit(request_id="r", attempt=1, consumed=REPORT + 5)]


@virtual
async def test_a_closed_reply_is_reported_no_more() -> None:
    acks = Acks()
    incoming = acks.inbox.open("w", "r", 1)
    incoming.consumed(CREDIT)
    incoming.close()
    incoming.consumed(CREDIT)
    await asyncio.sleep(0)
    assert [list(ack.credits) for _, ack in acks.sent] == [[]]
    acks.receive(0)
    await asyncio.sleep(0)
    assert [(list(ack.credits), ack.complete) for _, ack in acks.sent[1:]] == [([], True)]


@virtual
async def test_a_probe_is_answered_with_the_credit_of_every_open_reply() -> None:
    acks = Acks()
    for request_id, size in (("r", 0), ("s", 7)):
        acks.inbox.open("w", request_id, 1).consumed(size)
    acks.receive(0)
    await asyncio.sleep(0)
    ((_, ack),) = acks.sent
    assert ack.complete
    assert [(credit.request_id, credit.consumed) for credit in ack.credits] == [("r", 0), ("s", 7)]


@virtual
async def test_a_batch_of_an_older_lane_is_not_answered() -> None:
    acks = Acks()
    acks.receive(1)
    older = pb.ChunkBatch(worker_id="w", epoch=4, number=1, base=1, events=[pb.ReplyEvent(text="a")])
    assert acks.inbox.receive(older) == ([], False)
    await asyncio.sleep(1)
    assert [ack.epoch for _, ack in acks.sent] == [5]


@virtual
async def test_a_worker_that_was_forgotten_begins_a_new_lane() -> None:
    acks = Acks()
    acks.receive(1)
    acks.inbox.forget("w")
    assert acks.receive(2, pb.ReplyEvent(text="a")) == ([], False)  # 1 is due again
    assert [event.text for event in acks.receive(1)[0]] == ["a"]
