"""Every worker is replaced, one at a time, while a hundred clients ask without a pause."""

import asyncio
import itertools
import time

import pytest

from tests.faults.crowd import Say, constant_load
from tests.faults.standing import LONG, PATIENCE
from tests.harness.fleet import Fleet
from tests.harness.process import Process
from tests.harness.waiting import eventually
from tests.schedule import Schedule

pytestmark = pytest.mark.slow

LOAD_LASTS = 60.0 if LONG else 20.0
"""Seconds of load at least."""

numbers = itertools.count()


def question() -> Schedule:
    """A reply of three seconds: neither so short that the load is all beginnings, nor so long that it is none."""
    return Schedule(tag=f"load-{next(numbers)}", tokens=10, delay=0.3)


async def stop(worker: Process) -> None:
    assert await asyncio.to_thread(worker.stop, 30) == 0


async def start(fleet: Fleet, workers: int) -> None:
    fleet.new_worker().start()
    await eventually(lambda: len(fleet.ready_workers()) == workers, PATIENCE, f"{workers} workers are ready")


async def replace_both(fleet: Fleet) -> None:
    """The first with its successor at its side, the second before its successor starts, so that one is alone."""
    first, second = [worker for worker in fleet.workers if worker.is_alive]
    await start(fleet, 3)
    await stop(first)
    await stop(second)
    await start(fleet, 2)


@pytest.mark.timeout(300)
async def test_a_rolling_restart_fails_no_request(fleet: Fleet, figures: Say) -> None:
    began = time.monotonic()
    async with constant_load(fleet.address, question) as tally:
        await eventually(lambda: tally.completed > 50, PATIENCE, "the load runs")
        await replace_both(fleet)
        while time.monotonic() - began < LOAD_LASTS:
            await replace_both(fleet)
        lasted = time.monotonic() - began
    figures(f"{tally.completed} requests in {lasted:.0f} s, {len(tally.failures)} failed or inexact")
    assert not tally.failures, tally.failures[:3]
