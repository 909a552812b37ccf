"""The queue of one request."""

import asyncio

from gateway.errors import WorkerLost
from gateway.reply import LIMIT, Completed, Piece, Reply
from protos import chat_pb2 as pb


async def taken(reply: Reply) -> list[Piece]:
    pieces = []
    while isinstance(item := await reply.get(), Piece):
        pieces.append(item)
    return pieces


async def test_text_that_piled_up_comes_as_one_piece() -> None:
    reply = Reply()
    for text in ("a", "é", "c"):
        reply.push(pb.ChatChunk(text=text))
    reply.finish(Completed("stop"))
    assert await taken(reply) == [Piece(text="aéc", size=4)]


async def test_kinds_keep_their_order() -> None:
    reply = Reply()
    call = pb.ToolCall(id="1", name="f", arguments="{}")
    for chunk in (pb.ChatChunk(reasoning="h"), pb.ChatChunk(text="a"), pb.ChatChunk(tool_call=call)):
        reply.push(chunk)
    reply.finish(Completed("function_calls"))
    assert await taken(reply) == [
        Piece(reasoning="h", size=1),
        Piece(text="a", size=1),
        Piece(tool_call=call, size=3),
    ]


async def test_what_came_before_the_end_is_read_before_it_and_only_the_first_end_counts() -> None:
    reply = Reply()
    reply.push(pb.ChatChunk(text="a"))
    error = WorkerLost("worker_lost", "gone")
    reply.finish(error)
    reply.finish(Completed("stop"))
    reply.push(pb.ChatChunk(text="late"))
    assert await reply.get() == Piece(text="a", size=1)
    assert await reply.get() is error
    assert await reply.get() is error


async def test_a_reader_waits_for_what_comes() -> None:
    reply = Reply()
    reading = asyncio.create_task(reply.get())
    await asyncio.sleep(0)
    reply.push(pb.ChatChunk(text="a"))
    assert await reading == Piece(text="a", size=1)


def test_a_worker_that_ignores_its_credit_is_noticed() -> None:
    reply = Reply()
    assert reply.push(pb.ChatChunk(text="x" * LIMIT))
    assert not reply.push(pb.ChatChunk(text="x"))


async def test_a_nudge_ends_a_wait_once_and_hides_nothing() -> None:
    reply = Reply()
    reading = asyncio.create_task(reply.get())
    await asyncio.sleep(0)
    reply.nudge()
    assert await reading is None
    reply.push(pb.ChatChunk(text="a"))
    reply.nudge()
    assert await reply.get() == Piece(text="a", size=1)
    reply.finish(Completed("stop"))
    reply.nudge()
    assert await reply.get() == Completed("stop")
