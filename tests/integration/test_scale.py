"""Members come and go, in any order, while the fleet serves."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from tests.harness.chat import ask, assert_complete
from tests.harness.fleet import START, Fleet
from tests.harness.process import Process
from tests.harness.waiting import eventually
from tests.schedule import Schedule

Say = Callable[[str], None]

GONE = 15.0
"""Seconds until a worker that has ended is not shown any more: fewer than until one counts as gone that is silent."""


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    """Not the spare one: a process that stands still for a moment must not cost a stream here."""
    with Fleet() as made:
        yield made


async def shares(fleet: Fleet, tag: str, streams: int = 60) -> Counter[str]:
    """Which worker served how many of so many streams at once."""
    # None ends before all have been asked for: who ends earlier is given more.
    schedules = [Schedule(tag=tag, first_delay=3.0) for _ in range(streams)]
    replies = await asyncio.gather(*[ask(fleet.address, schedule) for schedule in schedules])
    for reply, schedule in zip(replies, schedules, strict=True):
        assert_complete(reply, schedule)
    return Counter(record["authorization"].removeprefix("Bearer ") for record in fleet.backend.requests(tag))


async def test_a_worker_started_by_hand_takes_its_share_and_a_killed_one_is_gone(fleet: Fleet, figures: Say) -> None:
    third = fleet.new_worker()
    started = time.monotonic()
    third.start()
    await eventually(lambda: len(fleet.ready_workers()) == 3, START)
    figures(f"ready {time.monotonic() - started:.2f} s after its start")
    shared = await shares(fleet, "three")
    assert shared[third.name] >= 60 / 3 * 0.7, shared

    killed = time.monotonic()
    third.kill()
    await eventually(lambda: known(fleet) == 2, GONE)
    figures(f"out of /fleet {time.monotonic() - killed:.2f} s after SIGKILL")
    assert set(await shares(fleet, "two")) == {"worker-0", "worker-1"}


async def test_a_worker_that_is_asked_to_stop_leaves_without_a_trace(fleet: Fleet) -> None:
    worker = fleet.new_worker()
    worker.start()
    await eventually(lambda: len(fleet.ready_workers()) == 3, START)
    assert worker.stop() == 0
    await eventually(lambda: known(fleet) == 2, GONE)


async def test_members_outlive_the_host_and_readiness_says_so(fleet: Fleet, figures: Say) -> None:
    before = fleet.log_sizes()
    killed = time.monotonic()
    fleet.host.kill()
    await eventually(lambda: fleet.readiness()[0] == 503 and "host" in reason(fleet))
    figures(f"not ready {time.monotonic() - killed:.2f} s after the host was killed")

    def complaints(member: Process) -> list[str]:
        return [line for line in member.log(before[member.name]).splitlines() if "host" in line]

    members = (fleet.gateway, *fleet.workers[:2])
    await eventually(lambda: all(map(complaints, members)), what="each has noticed")
    await asyncio.sleep(2)  # not for a state: tries to reach the host shall fail a few times
    for member in members:
        assert len(complaints(member)) <= 3, complaints(member)

    restarted = time.monotonic()
    fleet.host.start()
    await asyncio.to_thread(fleet.wait_until_ready)
    figures(f"ready {time.monotonic() - restarted:.2f} s after the host was started again")
    assert_complete(await ask(fleet.address, schedule := Schedule()), schedule)


async def test_processes_start_in_any_order_and_the_last_worker_may_leave() -> None:
    with Fleet(workers=1, start=False) as fleet:
        (worker,) = fleet.workers
        worker.start()
        fleet.gateway.start()
        await eventually(lambda: fleet.readiness()[0] == 503, START)
        await asyncio.sleep(2)  # not for a state: the host shall be away long enough for tries to fail
        assert "host" in reason(fleet)
        assert worker.is_alive
        fleet.host.start()
        fleet.backend.start()
        await asyncio.to_thread(fleet.wait_until_ready)
        assert_complete(await ask(fleet.address, schedule := Schedule()), schedule)

        assert worker.stop() == 0
        await eventually(lambda: fleet.readiness()[0] == 503 and "worker" in reason(fleet))


def known(fleet: Fleet) -> int:
    """Workers in ``/fleet``, ready or not."""
    return len((fleet.status() or {}).get("workers", ()))


def reason(fleet: Fleet) -> str:
    """Why ``/readyz`` is not 200, in its own words."""
    return str(fleet.readiness()[1])
