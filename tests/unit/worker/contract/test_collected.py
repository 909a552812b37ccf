"""A reply that is collected for AutoGen: its pieces as they come, and its result."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from autogen_core import FunctionCall
from autogen_core.models import RequestUsage

from protos import chat_pb2 as pb
from tests.harness.virtual import virtual
from worker.contract.collected import Collected
from worker.contract.tool_call import tool_call

DONE = pb.Done(finish_reason="stop", usage=pb.Usage(prompt_tokens=1, completion_tokens=2))


class Producer:
    """Notes whether it is paused."""

    def __init__(self) -> None:
        self.paused = False

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False


def writing(write: Callable[[], Awaitable[pb.Done]]) -> asyncio.Task[pb.Done]:
    async def run() -> pb.Done:
        return await write()

    return asyncio.create_task(run())


@virtual
async def test_every_piece_is_yielded_and_all_of_them_are_the_result() -> None:
    collected = Collected()

    async def write() -> pb.Done:
        for text in ("a", "b", "c"):
            collected.text(text)
            collected.reasoning("hm")
            await collected.ready()
        collected.text("d")
        return DONE

    writer = writing(write)
    assert [piece async for piece in collected.pieces(writer)] == ["a", "b", "c", "d"]
    result = collected.result(await writer)
    assert (result.content, result.thought, result.finish_reason) == ("abcd", "hmhmhm", "stop")
    assert result.usage == RequestUsage(1, 2)


@virtual
async def test_a_producer_is_paused_until_its_text_is_read() -> None:
    collected, producer, end = Collected(), Producer(), asyncio.Event()

    async def write() -> pb.Done:
        collected.attach(producer)
        collected.text("a")
        collected.text("b")
        await end.wait()
        collected.attach(None)
        return DONE

    writer = writing(write)
    pieces = collected.pieces(writer)
    assert await anext(pieces) == "a"
    states = [producer.paused]
    assert await anext(pieces) == "b"
    states.append(producer.paused)
    rest = asyncio.create_task(anext(pieces, "none"))
    await asyncio.sleep(0)
    states.append(producer.paused)
    assert states == [True, True, False]
    end.set()
    assert await rest == "none"


@virtual
async def test_a_producer_that_is_attached_after_text_came_is_paused() -> None:
    collected, producer = Collected(), Producer()
    collected.text("a")
    collected.attach(producer)
    assert producer.paused


@virtual
async def test_what_was_written_before_an_error_is_yielded() -> None:
    collected = Collected()

    async def write() -> pb.Done:
        collected.text("a")
        raise LookupError

    writer = writing(write)
    assert [piece async for piece in collected.pieces(writer)] == ["a"]
    with pytest.raises(LookupError):
        await writer


def test_parts_of_calls_are_joined_and_text_beside_them_is_a_thought() -> None:
    collected = Collected()
    collected.text("let me see")
    for part in (
        tool_call(1, "b", "g", ""),
        tool_call(0, "a", "f", '{"x"'),
        tool_call(0, "a", "f", ": 1}"),
        tool_call(1, "", "", "{}"),
    ):
        collected.event(part)
    collected.event(pb.ReplyEvent(logprobs="[]"))
    result = collected.result(pb.Done(finish_reason="function_calls"))
    assert result.content == [
        FunctionCall(id="b", name="g", arguments="{}"),
        FunctionCall(id="a", name="f", arguments='{"x": 1}'),
    ]
    assert result.thought == "let me see"


def test_a_refusal_is_text_for_agents() -> None:
    collected = Collected()
    for json_ in ('{"delta":{"refusal":"I can"}}', '{"chunk":{"a":1}}', '{"delta":', '{"refusal":"not"}}'):
        collected.event(pb.ReplyEvent(fields=pb.Fields(json=json_, cut=not json_.endswith("}}"))))
    assert collected.result(pb.Done(finish_reason="stop")).content == "I cannot"
