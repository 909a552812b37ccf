"""Every worker is replaced, one at a time, while a hundred clients ask without a pause."""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable

import pytest

from tests.faults.crowd import Say, constant_load
from tests.faults.standing import LONG, PATIENCE
from tests.harness.fleet import Fleet
from tests.harness.process import Process
from tests.harness.waiting import eventually
from tests.schedule import Schedule

LOAD_LASTS = 60.0 if LONG else 0.0
"""Seconds of load at least, for each order."""

numbers = itertools.count()


def question() -> Schedule:
    """A reply of two seconds: neither so short that the load is all beginnings, nor so long that it is none."""
    return Schedule(tag=f"load-{next(numbers)}", tokens=10, delay=0.2)


async def stop(worker: Process) -> None:
    assert await asyncio.to_thread(worker.stop, 30) == 0


async def start(fleet: Fleet, worker: Process, ready: int) -> None:
    worker.start()
    await eventually(lambda: len(fleet.ready_workers()) == ready, PATIENCE, f"{ready} workers are ready")


async def start_the_new_then_stop_the_old(fleet: Fleet) -> None:
    """With a third worker, so that there are always two."""
    spare = fleet.new_worker()
    await start(fleet, spare, 3)
    for worker in fleet.workers[:2]:
        await stop(worker)
        await start(fleet, worker, 3)
    await stop(spare)


async def stop_the_old_then_start_the_new(fleet: Fleet) -> None:
    """So that for a while there is only one."""
    for worker in fleet.workers[:2]:
        await stop(worker)
        await start(fleet, worker, 2)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("restart", [start_the_new_then_stop_the_old, stop_the_old_then_start_the_new])
async def test_a_rolling_restart_fails_no_request(
    fleet: Fleet, figures: Say, restart: Callable[[Fleet], Awaitable[None]]
) -> None:
    began = time.monotonic()
    async with constant_load(fleet.address, question) as tally:
        await eventually(lambda: tally.completed > 100, PATIENCE, "the load runs")
        await restart(fleet)
        while time.monotonic() - began < LOAD_LASTS:
            await restart(fleet)
    figures(f"{tally.completed} requests in {time.monotonic() - began:.0f} s, {len(tally.failures)} failed or inexact")
    assert not tally.failures, tally.failures[:3]
