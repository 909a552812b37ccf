"""A reply's events: passed on while they can be written, buffered while not, within the lane's credit."""

import asyncio
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.lane import CREDIT, Inbox, payload_bytes
from fleet.lane.reply import EVENT_BYTES
from gateway.chats.attempt import Attempt
from gateway.chats.reply import LIMIT, STEP, Buffer, Completed, Reply
from gateway.errors import WorkerLost
from gateway.settings import GatewaySettings
from protos import chat_pb2 as pb
from tests.harness.virtual import virtual

CALL = pb.ToolCall(id="1", name="f", arguments="{}")
AGENTS: list[dict[str, Any]] = [
    {"tool_result": pb.ToolResult(call_id="1")},
    {"message": pb.MessageMark(id="1")},
    {"handoff": pb.Handoff(target="a")},
    {"approval": pb.Approval(id="1")},
    {"custom": pb.Custom(kind="k", json="1")},
    {"usage": pb.Usage(prompt_tokens=1)},
]
"""Events that no face expresses yet."""
OTHERS: list[dict[str, Any]] = [{"tool_call": CALL}, {"logprobs": "[1]"}, *AGENTS]


class Client:
    """What a reply is written to: fits ``room`` events, then asks for a pause."""

    def __init__(self, reply: Reply, room: float = float("inf")) -> None:
        self.reply = reply
        self.room = room
        self.events: list[pb.ReplyEvent] = []

    def __call__(self, event: pb.ReplyEvent) -> None:
        self.events.append(event)
        self.room -= 1
        if self.room <= 0:
            self.reply.pause()

    def read(self, room: float = float("inf")) -> None:
        self.room = room
        self.reply.resume(self)

    @property
    def text(self) -> str:
        return "".join(event.text for event in self.events)


def opened() -> Reply:
    """A reply with an attempt, whose credit :func:`credit` tells."""
    reply = Reply()
    incoming = Inbox("g", lambda *_: None).open("w", "r", 1)
    reply.attempt = Attempt(1, "w", incoming, GatewaySettings(), clock=asyncio.get_running_loop().time)
    credit = 0

    def consumed(size: int) -> None:
        nonlocal credit
        credit += size

    incoming.consumed = consumed  # type: ignore[method-assign]
    incoming.credit = lambda: credit  # type: ignore[attr-defined]
    return reply


def credit(reply: Reply) -> int:
    """What was reported as consumed."""
    assert reply.attempt is not None
    total: int = reply.attempt.incoming.credit()  # type: ignore[attr-defined]
    return total


def push(reply: Reply, event: pb.ReplyEvent) -> None:
    kind = event.WhichOneof("event")
    assert kind is not None
    reply.push(event, kind)


@pytest.mark.parametrize("event", [{"text": "é"}, {"reasoning": "é"}, *OTHERS], ids=lambda event: next(iter(event)))
@virtual
async def test_every_kind_is_passed_on_at_once_while_it_can_be_written(event: dict[str, Any]) -> None:
    reply = opened()
    client = Client(reply)
    client.read()
    pushed = [pb.ReplyEvent(position=number, **event) for number in range(3)]
    for number, one in enumerate(pushed, 1):
        push(reply, one)
        assert client.events == pushed[:number]
        assert credit(reply) == number * payload_bytes(one)
    assert reply.unread == 0


@pytest.mark.parametrize("event", OTHERS, ids=lambda event: next(iter(event)))
@virtual
async def test_every_kind_is_buffered_in_order_while_it_cannot(event: dict[str, Any]) -> None:
    reply = opened()
    client = Client(reply)
    pushed = [pb.ReplyEvent(text="a"), pb.ReplyEvent(**event), pb.ReplyEvent(**event), pb.ReplyEvent(text="b")]
    for one in pushed:
        push(reply, one)
    assert (reply.unread, credit(reply)) == (sum(map(payload_bytes, pushed)), 0)
    client.read()
    assert client.events == pushed
    assert (reply.unread, credit(reply)) == (0, sum(map(payload_bytes, pushed)))


def test_deltas_that_piled_up_are_one_event_of_their_kind_and_source() -> None:
    reply = Reply()
    for one in (
        pb.ReplyEvent(text="a"),
        pb.ReplyEvent(text="é"),
        pb.ReplyEvent(reasoning="c"),
        pb.ReplyEvent(reasoning="d"),
        pb.ReplyEvent(reasoning="e", source="x"),
        pb.ReplyEvent(reasoning="f", source="x", extra="{}"),
        pb.ReplyEvent(reasoning="g", source="x"),
        pb.ReplyEvent(tool_call=CALL),
        pb.ReplyEvent(tool_call=CALL),
    ):
        push(reply, one)
    client = Client(reply)
    client.read()
    assert client.events == [
        pb.ReplyEvent(text="aé"),
        pb.ReplyEvent(reasoning="cd"),
        pb.ReplyEvent(reasoning="e", source="x"),
        pb.ReplyEvent(reasoning="f", source="x", extra="{}"),
        pb.ReplyEvent(reasoning="g", source="x"),
        pb.ReplyEvent(tool_call=CALL),
        pb.ReplyEvent(tool_call=CALL),
    ]


def test_what_is_buffered_does_not_keep_its_batch() -> None:
    """An event belongs to its batch's memory, which is many times its own."""
    batch = pb.ChunkBatch(events=[pb.ReplyEvent(tool_call=CALL), pb.ReplyEvent(text="a")])
    buffer = Buffer()
    for event in batch.events:
        buffer.append(event)
    batch.events[0].tool_call.name = "changed"
    batch.events[1].text = "changed"
    assert list(buffer) == [pb.ReplyEvent(tool_call=CALL), pb.ReplyEvent(text="a")]
    assert not buffer


@pytest.mark.parametrize("delta", ["ab", "\u4e00"])
def test_small_deltas_take_little_more_memory_than_their_bytes(delta: str) -> None:
    buffer = Buffer()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(CREDIT // len(delta.encode())):
            buffer.append(pb.ReplyEvent(text=delta))
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 2 * CREDIT


@given(st.lists(st.tuples(st.text(max_size=3), st.integers(0, 3))))
def test_text_keeps_its_order_however_often_the_client_pauses(steps: list[tuple[str, int]]) -> None:
    async def run() -> None:
        reply = opened()
        client = Client(reply)
        for text, room in steps:
            if room:
                client.read(room)
            push(reply, pb.ReplyEvent(text=text))
            sent = "".join(text for text, _ in steps)
            assert sent.startswith(client.text)
            assert credit(reply) == len(client.text.encode())
        client.read()
        assert client.text == "".join(text for text, _ in steps)
        assert reply.unread == 0
        assert reply.attempt is not None
        reply.attempt.close()

    asyncio.run(run())


@virtual
async def test_a_client_that_catches_up_excuses_the_silence_before() -> None:
    reply = opened()
    assert reply.attempt is not None
    push(reply, pb.ReplyEvent(text="a"))
    await asyncio.sleep(10)
    Client(reply).read()
    assert reply.attempt.heard_at == 10


async def test_a_response_is_woken_by_the_first_event_a_pause_and_the_end_and_not_by_what_it_is_passed() -> None:
    reply = Reply()
    client = Client(reply)

    async def woken() -> bool:
        waiting = asyncio.create_task(reply.changed())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        done = waiting.done()
        waiting.cancel()
        return done

    assert not await woken()
    push(reply, pb.ReplyEvent(text="a"))
    assert await woken()
    client.read(3)
    push(reply, pb.ReplyEvent(text="a"))
    assert not await woken()
    push(reply, pb.ReplyEvent(text="a"))
    assert await woken()
    client.read()
    reply.finish(Completed("stop"))
    assert await woken()


async def test_only_the_first_end_counts_and_nothing_comes_after_it() -> None:
    reply = Reply()
    client = Client(reply)
    push(reply, pb.ReplyEvent(text="a"))
    error = WorkerLost("worker_lost", "gone")
    reply.finish(error)
    reply.finish(Completed("stop"))
    push(reply, pb.ReplyEvent(text="late"))
    client.read()
    push(reply, pb.ReplyEvent(text="late"))
    assert (client.text, reply.end) == ("a", error)


@pytest.mark.parametrize("buffered", [True, False])
@virtual
async def test_what_a_writer_raises_is_the_responses_and_pauses_the_reply(buffered: bool) -> None:
    reply = opened()

    def broken(_: pb.ReplyEvent) -> None:
        raise LookupError("broken")

    if not buffered:
        reply.resume(broken)
    for text in "abc":
        push(reply, pb.ReplyEvent(text=text))
    reply.finish(Completed("stop"))
    if buffered:
        with pytest.raises(LookupError, match="broken"):
            reply.resume(broken)
    with pytest.raises(LookupError, match="broken"):
        await reply.changed()
    assert reply.unread == (0 if buffered else 2)


@pytest.mark.parametrize("attached", [True, False])
def test_a_worker_that_ignores_its_credit_is_noticed(attached: bool) -> None:
    reply = Reply()
    if attached:
        Client(reply, room=1).read(1)
    for _ in range(LIMIT // CREDIT + attached):
        push(reply, pb.ReplyEvent(text="x" * CREDIT))
    with pytest.raises(WorkerLost) as raised:
        push(reply, pb.ReplyEvent(text="x"))
    assert raised.value.code == "credit_ignored"
    assert reply.unread == LIMIT


@pytest.mark.parametrize("event", OTHERS[:2], ids=lambda event: next(iter(event)))
def test_events_without_content_are_bounded_too(event: dict[str, Any]) -> None:
    reply = Reply()
    for _ in range(LIMIT // payload_bytes(pb.ReplyEvent(**event))):
        push(reply, pb.ReplyEvent(**event))
    with pytest.raises(WorkerLost):
        push(reply, pb.ReplyEvent(**event))
    assert payload_bytes(pb.ReplyEvent(**event)) >= EVENT_BYTES


@pytest.mark.parametrize("odd", ["", "{", "5", "{}", "[" * 5000])
def test_log_probabilities_that_are_no_list_are_refused(odd: str) -> None:
    with pytest.raises(WorkerLost) as raised:
        push(Reply(), pb.ReplyEvent(logprobs=odd))
    assert raised.value.code == "chunk_invalid"


def test_empty_deltas_are_dropped_and_take_no_memory() -> None:
    reply = Reply()
    for _ in range(1000):
        push(reply, pb.ReplyEvent(text=""))
        push(reply, pb.ReplyEvent(reasoning=""))
    assert not reply.is_buffered
    assert reply.started


def test_a_meter_is_called_at_the_first_token_and_at_every_step() -> None:
    reply = Reply()
    reports: list[int] = []
    reply.meter(reports.append)
    for _ in range(2 * STEP):
        push(reply, pb.ReplyEvent(text="a", tokens=1))
    push(reply, pb.ReplyEvent(tool_call=CALL))
    assert reports == [1, 1 + STEP, 1 + 2 * STEP]
    assert reply.tokens == 2 * STEP + 1
