"""Memory does not grow with the number of requests served."""

import asyncio
import secrets
from collections.abc import Callable

import pytest

from tests.harness.chat import ask_over, assert_complete, body_of
from tests.harness.fleet import Fleet
from tests.harness.http import Connection
from tests.schedule import Schedule

pytestmark = pytest.mark.slow

MIB = 1024 * 1024
GROWTH = 4 * MIB
CLIENTS = 16


async def serve(fleet: Fleet, requests: int) -> None:
    """So many requests, over a few connections."""
    await asyncio.gather(*[one_client(fleet, requests // CLIENTS) for _ in range(CLIENTS)])


async def one_client(fleet: Fleet, requests: int) -> None:
    async with Connection(fleet.address) as connection:
        for number in range(requests):
            schedule = Schedule(tokens=1, seed=secrets.randbits(48))
            reply = await ask_over(connection, body_of(schedule, stream=number % 8 > 0))
            if number % 8:
                assert_complete(reply, schedule)


@pytest.mark.timeout(300)
async def test_memory_is_flat_between_request_1000_and_5000(fleet: Fleet, figures: Callable[[str], None]) -> None:
    members = [fleet.host, *fleet.workers[:2], fleet.gateway]
    await serve(fleet, 1000)
    before = {member.name: member.memory() for member in members}
    await serve(fleet, 4000)
    growth = {member.name: member.memory() - before[member.name] for member in members}
    for name in before:
        figures(f"{name}: {before[name] / MIB:.1f} MiB, then {growth[name] / MIB:+.2f} MiB")
    assert max(growth.values()) < GROWTH
