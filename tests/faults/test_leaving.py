"""A hundred clients leave at the same moment, in each phase of their requests' lives."""

import time

from tests.faults.crowd import CROWD, Crowd, Say, all_closed, backend_has, crowd, queue_length, schedules
from tests.faults.standing import PATIENCE
from tests.harness.fleet import Fleet
from tests.harness.waiting import SOON, eventually

GENEROUS = 10.0
"""Seconds for all of a hundred; 0.25 is what an idle machine must show. A gateway that only falls silent has 15."""


async def test_before_a_worker_has_taken_the_request_on(fleet: Fleet, figures: Say) -> None:
    async with crowd(fleet.address, schedules("unaccepted", first_delay=60)) as clients:
        for worker in fleet.workers:
            worker.freeze()
        await eventually(lambda: fleet.status()["gateway"]["in_flight"] == CROWD, SOON, "all are with the gateway")
        await clients.leave()
        await eventually(lambda: fleet.status()["gateway"]["in_flight"] == 0, SOON, "the gateway has seen them leave")
        for worker in fleet.workers:
            worker.thaw()
    thawed = time.monotonic()
    await nothing_runs(fleet)
    closed = await all_closed(fleet, "unaccepted", thawed) if fleet.backend.requests() else [0.0]
    figures(f"{len(fleet.backend.requests())} reached the model; closed {closed[-1]:.2f} s after the workers went on")
    assert closed[-1] < GENEROUS


async def test_before_the_first_token(fleet: Fleet, figures: Say) -> None:
    async with crowd(fleet.address, schedules("tokenless", first_delay=60)) as clients:
        await backend_has(fleet, CROWD)
        await closed_after_leaving(fleet, clients, "tokenless", figures)


async def test_in_mid_stream(fleet: Fleet, figures: Say) -> None:
    async with crowd(fleet.address, schedules("talking", tokens=10_000, delay=0.2)) as clients:
        await clients.all_have_text()
        await closed_after_leaving(fleet, clients, "talking", figures)


async def test_while_queued(narrow_fleet: Fleet, figures: Say) -> None:
    fleet = narrow_fleet
    async with crowd(fleet.address, schedules("running", 8, tokens=10_000, delay=0.2)) as running:
        await running.all_have_text()
        async with crowd(fleet.address, schedules("queued")) as queued:
            await eventually(lambda: queue_length(fleet) == CROWD, SOON, "all wait")
            left = await queued.leave()
            await eventually(lambda: queue_length(fleet) == 0, SOON, "nobody waits")
            figures(f"the queue was empty {time.monotonic() - left:.2f} s later")
        await closed_after_leaving(fleet, running, "running", figures)
    async with crowd(fleet.address, schedules("next", 20)) as served:
        pass
    served.assert_complete()
    asked = {record["tag"].partition("-")[0] for record in fleet.backend.requests()}
    assert asked == {"running", "next"}


async def test_while_the_host_is_away(fleet: Fleet, figures: Say) -> None:
    async with crowd(fleet.address, schedules("hostless", tokens=10_000, delay=0.2)) as clients:
        await clients.all_have_text()
        fleet.host.kill()
        await eventually(lambda: fleet.readiness()[0] == 503, SOON, "the gateway has noticed")
        await clients.leave()
        await eventually(lambda: fleet.status()["gateway"]["in_flight"] == 0, SOON, "the gateway has seen them leave")
        assert fleet.backend.active() == CROWD
    fleet.host.start()
    await eventually(lambda: fleet.readiness()[0] == 200, PATIENCE, "the fleet is ready")
    back = time.monotonic()
    closed = await all_closed(fleet, "hostless", back)
    figures(f"closed {closed[0]:.2f} to {closed[-1]:.2f} s after the fleet was ready again")
    assert closed[-1] < GENEROUS
    await nothing_runs(fleet)


async def closed_after_leaving(fleet: Fleet, clients: Crowd, prefix: str, say: Say) -> None:
    """All leave now: soon after the backend sees every connection closed, and no worker is busy."""
    left = await clients.leave()
    closed = await all_closed(fleet, prefix, left)
    middle = closed[len(closed) // 2]
    say(f"closed after {1000 * middle:.0f} ms (median), {1000 * closed[-1]:.0f} ms (last of {len(closed)})")
    assert closed[-1] < GENEROUS
    await nothing_runs(fleet)


async def nothing_runs(fleet: Fleet) -> None:
    await eventually(fleet.is_idle, SOON, "no worker is busy")
    await eventually(lambda: fleet.backend.active() == 0, SOON, "the backend is idle")
