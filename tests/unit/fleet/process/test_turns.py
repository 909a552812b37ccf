"""Long work leaves the loop to others."""

import asyncio
import time

import pytest

from fleet.process.turns import TURN, Turns


async def work(turns: Turns, steps: int, done: list[str], name: str = "") -> None:
    async with turns.turn() as turn:
        for _ in range(steps):
            await turn.pause()
            until = time.perf_counter() + TURN / 2
            while time.perf_counter() < until:
                pass
            done.append(name)


async def test_others_run_between_the_turns_of_long_work() -> None:
    turns, done = Turns(), list[str]()
    tasks = [asyncio.create_task(work(turns, 6, done)) for _ in range(3)]
    between = 0
    async with asyncio.timeout(5):
        while not all(task.done() for task in tasks):
            before = len(done)
            await asyncio.sleep(0)
            between += 1
            assert len(done) - before <= 4  # a turn is two steps long, and its last step may end late
    assert between >= 5
    assert len(done) == 18


async def test_pieces_of_work_alternate() -> None:
    turns, done = Turns(), list[str]()
    await asyncio.gather(work(turns, 8, done, "a"), work(turns, 8, done, "b"))
    assert "b" in done[:8]
    assert "a" in done[-8:]


async def test_work_that_is_cancelled_leaves_its_turn_to_others() -> None:
    turns, done = Turns(), list[str]()
    tasks = [asyncio.create_task(work(turns, 100, done, name)) for name in "abc"]
    for task in tasks:
        await asyncio.sleep(0)
        task.cancel()
    for task in tasks:
        with pytest.raises(asyncio.CancelledError):
            await task
    await asyncio.wait_for(work(turns, 1, done, "d"), 5)
    assert done[-1] == "d"
    assert not turns.lock.locked()
