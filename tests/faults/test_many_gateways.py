"""Several gateways share the workers, although each only knows its own requests at once and the others' by hearsay."""

import asyncio
import itertools
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack

import pytest

from tests.faults.crowd import Say, constant_load, crowd, schedules
from tests.faults.standing import PATIENCE
from tests.harness.fleet import Fleet, fetch
from tests.harness.waiting import eventually
from tests.schedule import Schedule

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

GATEWAYS = 3
WORKERS = 4
EACH = 30
"""Clients at each gateway."""

numbers = itertools.count()


@pytest.fixture(scope="module")
def wide_fleet() -> Iterator[Fleet]:
    """Three gateways, each of which knows all four workers."""
    with Fleet(workers=WORKERS, settings={"WORKER_CAPACITY": "40"}) as fleet:
        for _ in range(GATEWAYS - 1):
            fleet.new_gateway().start()
        yield fleet


async def all_know_all(fleet: Fleet) -> None:
    for host, port in fleet.addresses:
        url = f"http://{host}:{port}/fleet"

        def ready(url: str = url) -> bool:
            workers = (fetch(url)[1] or {}).get("workers", [])
            return [worker["state"] for worker in workers] == ["READY"] * WORKERS

        await eventually(ready, PATIENCE, f"{url} knows every worker")


def shares(fleet: Fleet, prefix: str) -> Counter[str]:
    """Requests that each worker asked the model for."""
    asked = [record for record in fleet.backend.requests() if record["tag"].startswith(prefix)]
    return Counter(record["authorization"].removeprefix("Bearer ") for record in asked)


async def test_a_burst_at_every_gateway_is_spread(wide_fleet: Fleet, figures: Say) -> None:
    """All at once, from nothing: no status can have told any gateway of the others' requests."""
    fleet = wide_fleet
    await all_know_all(fleet)
    async with AsyncExitStack() as stack:
        crowds = [
            await stack.enter_async_context(crowd(address, schedules(f"burst-{number}", EACH, tokens=10, delay=0.2)))
            for number, address in enumerate(fleet.addresses)
        ]
    for clients in crowds:
        clients.assert_complete()
    shared = shares(fleet, "burst-")
    figures(f"{GATEWAYS * EACH} at once: {dict(sorted(shared.items()))}")
    fair = GATEWAYS * EACH / WORKERS
    assert len(shared) == WORKERS
    assert max(shared.values()) <= fair * 1.5
    assert min(shared.values()) >= fair * 0.5


async def test_constant_load_at_every_gateway_stays_balanced(wide_fleet: Fleet, figures: Say) -> None:
    """Replies of very different lengths, so that what was balanced does not stay so by itself."""
    fleet = wide_fleet
    await all_know_all(fleet)
    fleet.backend.forget()

    def question() -> Schedule:
        number = next(numbers)
        return Schedule(tag=f"mixed-{number}", tokens=2 + 40 * (number % 7 == 0), delay=0.05)

    spread: list[tuple[int, int]] = []
    async with AsyncExitStack() as stack:
        tallies = [
            await stack.enter_async_context(constant_load(address, question, EACH)) for address in fleet.addresses
        ]
        await eventually(lambda: all(tally.completed > EACH for tally in tallies), PATIENCE, "the load runs")
        for _ in range(40):
            await asyncio.sleep(0.25)  # not for a state: the balance is sampled over 10 s
            active = [worker["active"] for worker in (await asyncio.to_thread(fleet.status))["workers"]]
            spread.append((min(active), max(active)))
    for tally in tallies:
        assert not tally.failures, tally.failures[:3]
    shared = shares(fleet, "mixed-")
    total = shared.total()
    figures(f"{total} requests, shares {sorted(round(n / total, 3) for n in shared.values())}, active {spread}")
    assert len(shared) == WORKERS
    assert max(shared.values()) <= total / WORKERS * 1.3
    assert min(shared.values()) >= total / WORKERS * 0.7


async def test_a_killed_gateway_disturbs_no_other(wide_fleet: Fleet, figures: Say) -> None:
    fleet = wide_fleet
    await all_know_all(fleet)
    async with (
        crowd(fleet.addresses[1], schedules("spared-1", EACH, tokens=80, delay=0.1)) as first,
        crowd(fleet.addresses[2], schedules("spared-2", EACH, tokens=80, delay=0.1)) as second,
        crowd(fleet.addresses[0], schedules("cut", EACH, tokens=10_000, delay=0.1)) as cut,
    ):
        for clients in (first, second, cut):
            await clients.all_have_text()
        fleet.gateway.kill()
        async with crowd(fleet.addresses[1], schedules("later", EACH, tokens=10)) as later:
            pass
    for clients in (first, second, later):
        clients.assert_complete()
    assert all(client.broken is not None for client in cut)
    pauses = max(first.longest_pause, second.longest_pause)
    figures(f"{3 * EACH} streams of the others exact, longest pause {pauses:.2f} s for tokens 0.1 s apart")
    fleet.gateway.start()
    await eventually(lambda: fleet.readiness()[0] == 200, PATIENCE, "it is back")
