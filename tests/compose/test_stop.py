"""`docker compose stop` in the middle of streams breaks none of them, and `up` goes on from there."""

import asyncio
import time

import pytest

from tests.compose.stack import Stack
from tests.faults.crowd import Client, Say, assert_refused, crowd, schedules
from tests.harness.chat import ask, assert_complete
from tests.schedule import Schedule

pytestmark = pytest.mark.timeout(300)
GRACE = 75.0
"""``stop_grace_period`` of those that drain, in seconds."""


async def test_a_stop_lets_streams_end_and_the_next_start_serves(stack: Stack, figures: Say) -> None:
    async with crowd(stack.address, schedules("stop", 60, tokens=80, delay=0.1)) as clients:
        await clients.all_have_text()
        began = time.monotonic()
        await asyncio.to_thread(stack.compose, "stop")
        took = time.monotonic() - began
    clients.assert_complete()
    longest = max(client.ended_at or 0.0 for client in clients) - began
    ends = {state["Name"]: state["State"]["ExitCode"] for state in stack.all_containers()}
    figures(f"stopped in {took:.1f} s; its last stream had ended {longest:.1f} s after the stop began")
    assert took < GRACE
    assert set(ends.values()) == {0}, ends
    began = time.monotonic()
    await asyncio.to_thread(stack.up)
    figures(f"up again, all healthy, in {time.monotonic() - began:.1f} s")
    schedule = Schedule(tokens=200)
    assert_complete(await ask(stack.address, schedule), schedule)


async def test_who_waits_for_a_gateway_is_told_that_the_ingress_stops(stack: Stack, figures: Say) -> None:
    await asyncio.to_thread(stack.compose, "stop", "gateway")
    waiting = Client(stack.address, Schedule())
    waiting.task = asyncio.create_task(waiting.run())
    await asyncio.sleep(1)  # not for a state: so long it waits already
    began = time.monotonic()
    await asyncio.to_thread(stack.compose, "stop", "ingress")
    figures(f"the ingress stopped in {time.monotonic() - began:.1f} s")
    await waiting.task
    assert_refused(waiting, 503, "no_gateway")
    await asyncio.to_thread(stack.up)
