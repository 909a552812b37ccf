"""The queue of one request."""

import asyncio

import pytest

from fleet.lane.reply import EVENT_BYTES
from gateway.chats.reply import LIMIT, Completed, End, Piece, Reply
from gateway.errors import WorkerLost
from protos import chat_pb2 as pb


async def taken(reply: Reply) -> list[Piece]:
    pieces = []
    while isinstance(item := await reply.get(), Piece):
        pieces.append(item)
    return pieces


async def test_text_that_piled_up_comes_as_one_piece() -> None:
    reply = Reply()
    for text in ("a", "é", "c"):
        reply.push(pb.ReplyEvent(text=text))
    reply.finish(Completed("stop"))
    assert await taken(reply) == [Piece(text="aéc", size=4)]


async def test_kinds_keep_their_order() -> None:
    reply = Reply()
    call = pb.ToolCall(id="1", name="f", arguments="{}")
    for chunk in (pb.ReplyEvent(reasoning="h"), pb.ReplyEvent(text="a"), pb.ReplyEvent(tool_call=call)):
        reply.push(chunk)
    reply.finish(Completed("function_calls"))
    assert await taken(reply) == [
        Piece(reasoning="h", size=1),
        Piece(text="a", size=1),
        Piece(tool_call=call, size=4 + EVENT_BYTES),
    ]


async def test_what_came_before_the_end_is_read_before_it_and_only_the_first_end_counts() -> None:
    reply = Reply()
    reply.push(pb.ReplyEvent(text="a"))
    error = WorkerLost("worker_lost", "gone")
    reply.finish(error)
    reply.finish(Completed("stop"))
    reply.push(pb.ReplyEvent(text="late"))
    assert await reply.get() == Piece(text="a", size=1)
    assert await reply.get() is error
    assert await reply.get() is error


async def test_a_reader_waits_for_what_comes() -> None:
    reply = Reply()
    reading = asyncio.create_task(reply.get())
    await asyncio.sleep(0)
    reply.push(pb.ReplyEvent(text="a"))
    assert await reading == Piece(text="a", size=1)


def test_a_worker_that_ignores_its_credit_is_noticed() -> None:
    reply = Reply()
    assert reply.push(pb.ReplyEvent(text="x" * LIMIT))
    assert not reply.push(pb.ReplyEvent(text="x"))


async def test_a_nudge_ends_a_wait_once_and_hides_nothing() -> None:
    reply = Reply()
    reading = asyncio.create_task(reply.get())
    await asyncio.sleep(0)
    reply.nudge()
    assert await reading is None
    reply.push(pb.ReplyEvent(text="a"))
    reply.nudge()
    assert await reply.get() == Piece(text="a", size=1)
    reply.finish(Completed("stop"))
    reply.nudge()
    assert await reply.get() == Completed("stop")


class Direct:
    """What is offered text while the reader waits."""

    def __init__(self) -> None:
        self.takes = True
        self.taken: list[tuple[str, int]] = []
        self.offered = 0

    def __call__(self, text: str, size: int) -> bool:
        self.offered += 1
        if self.takes:
            self.taken.append((text, size))
        return self.takes


async def waiting(reply: Reply) -> asyncio.Task[Piece | End | None]:
    """A reader that has taken all there was."""
    task = asyncio.create_task(reply.get())
    await asyncio.sleep(0)
    return task


async def test_text_goes_past_a_reader_that_waits_and_does_not_wake_it() -> None:
    reply, direct = Reply(), Direct()
    reply.attend(direct)
    reading = await waiting(reply)
    for text in ("a", "é"):
        assert reply.push_text(text, 2)
    await asyncio.sleep(0)
    assert not reading.done()
    assert direct.taken == [("a", 1), ("é", 2)]
    assert (reply.unread, reply.tokens) == (0, 4)
    reply.finish(Completed("stop"))
    assert await reading == Completed("stop")


async def test_text_keeps_its_order_when_it_is_declined_in_between() -> None:
    reply, direct = Reply(), Direct()
    reply.attend(direct)
    reading = await waiting(reply)
    reply.push_text("a", 1)
    direct.takes = False
    reply.push_text("b", 1)
    direct.takes = True
    reply.push_text("c", 1)  # the reader is awake: this waits behind what was declined
    assert await reading == Piece(text="bc", size=2)
    reply.push_text("d", 1)  # the reader writes, and does not wait yet
    reading = await waiting(reply)
    assert await reading == Piece(text="d", size=1)
    reading = await waiting(reply)
    reply.push_text("e", 1)
    assert [text for text, _ in direct.taken] == ["a", "e"]
    assert (reply.unread, reply.tokens, direct.offered) == (3, 5, 3)
    reading.cancel()


async def test_text_waits_behind_what_is_no_text() -> None:
    reply, direct = Reply(), Direct()
    reply.attend(direct)
    reading = await waiting(reply)
    reply.push(pb.ReplyEvent(reasoning="h"))
    reply.push(pb.ReplyEvent(text="a"))
    assert await reading == Piece(reasoning="h", size=1)
    assert await reply.get() == Piece(text="a", size=1)
    assert direct.taken == []


async def test_nobody_is_offered_text_that_nobody_waits_for() -> None:
    reply, direct = Reply(), Direct()
    reply.attend(direct)
    reply.push_text("a", 1)
    assert await reply.get() == Piece(text="a", size=1)
    reading = await waiting(reply)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    reply.push_text("b", 1)
    reading = await waiting(reply)
    assert await reading == Piece(text="b", size=1)
    reading = await waiting(reply)
    reply.nudge()
    reply.push_text("c", 1)
    assert await reading == Piece(text="c", size=1)
    assert direct.offered == 0


async def test_after_the_end_no_text_is_offered() -> None:
    reply, direct = Reply(), Direct()
    reply.attend(direct)
    reading = await waiting(reply)
    reply.finish(Completed("stop"))
    assert reply.push_text("late", 1)
    assert await reading == Completed("stop")
    assert (direct.offered, reply.unread, reply.tokens) == (0, 0, 0)


async def test_what_goes_wrong_with_text_is_the_readers_and_nobody_elses() -> None:
    reply = Reply()

    def broken(_: str, __: int) -> bool:
        raise LookupError("broken")

    reply.attend(broken)
    reading = await waiting(reply)
    assert reply.push_text("a", 1)
    assert reply.push_text("b", 1)
    with pytest.raises(LookupError, match="broken"):
        await reading


def test_text_beyond_the_limit_is_noticed_however_it_comes() -> None:
    reply = Reply()
    assert reply.push_text("x" * LIMIT, 1)
    assert not reply.push_text("x", 1)


def test_empty_text_takes_no_memory() -> None:
    reply = Reply()
    for _ in range(1000):
        assert reply.push_text("", 1)
        assert reply.push(pb.ReplyEvent(reasoning=""))
    assert not reply._items
    assert reply.started
