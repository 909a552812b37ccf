"""The host dies: for a moment, again and again, or for longer than its members wait."""

import asyncio
import time

from tests.faults.crowd import CROWD, Say, all_closed, assert_cut, crowd, queue_length, schedules
from tests.faults.standing import PATIENCE
from tests.harness.fleet import Fleet
from tests.harness.waiting import SOON, eventually

LINK_TIMEOUT = 6.0
"""Of the hasty fleet, in seconds."""


async def test_a_host_killed_three_times_costs_no_stream_anything(fleet: Fleet, figures: Say) -> None:
    async with crowd(fleet.address, schedules("host", tokens=150, delay=0.2)) as clients:
        await clients.all_have_text()
        for _ in range(3):
            assert clients.unfinished == CROWD
            fleet.host.kill()
            await asyncio.sleep(2)  # not for a state: for so long the host is away
            fleet.host.start()
            began = time.monotonic()
            await clients.all_hear_more(began, PATIENCE)
            figures(f"streams flow again {time.monotonic() - began:.2f} s after the host's start")
    clients.assert_complete()
    figures(f"longest pause of a stream {clients.longest_pause:.2f} s")


async def test_a_host_away_for_too_long_ends_streams_and_all_heals_when_it_is_back(
    hasty_fleet: Fleet, figures: Say
) -> None:
    fleet = hasty_fleet
    members = [fleet.gateway, *fleet.workers]
    pids = [member.pid for member in members]
    async with crowd(fleet.address, schedules("lost", tokens=1000, delay=0.2)) as clients:
        await clients.all_have_text()
        killed = time.monotonic()
        fleet.host.kill()
    for client in clients:
        assert_cut(client, "link_lost")
    ends = sorted((client.ended_at or 0) - killed for client in clients)
    figures(f"ended in link_lost {ends[0]:.2f} to {ends[-1]:.2f} s after SIGKILL")
    assert LINK_TIMEOUT - 0.5 < ends[0] <= ends[-1] < LINK_TIMEOUT + 8, "by default it would be 30 s"
    status, body = fleet.readiness()
    assert (status, "host" in body["reason"]) == (503, True)
    closed = await all_closed(fleet, "lost", killed)
    figures(f"the model's connections closed {closed[0]:.2f} to {closed[-1]:.2f} s after SIGKILL")
    assert closed[-1] < LINK_TIMEOUT + 8

    async with crowd(fleet.address, schedules("meanwhile")) as waiting:
        await eventually(lambda: queue_length(fleet) == CROWD, SOON, "what is asked meanwhile waits")
        fleet.host.start()
    waiting.assert_complete()
    await eventually(lambda: fleet.readiness()[0] == 200, PATIENCE, "the fleet is ready")
    assert [member.pid for member in members] == pids
    assert all(member.is_alive for member in members)


async def test_a_host_that_dies_just_after_a_worker_has_joined_costs_no_stream_anything(fleet: Fleet) -> None:
    """Several times, because the worker must be caught in its first moments on the link."""
    joining, *others = fleet.workers
    for worker in others:
        worker.stop()
    for life in range(4):
        joining.stop()
        async with crowd(fleet.address, schedules(f"joining-{life}", count=10, tokens=60, delay=0.1)) as clients:
            await eventually(lambda: queue_length(fleet) == 10, PATIENCE, "all wait for the worker")
            joining.start()
            await clients.all_have_text(PATIENCE)
            fleet.host.kill()
            await asyncio.sleep(1)  # not for a state: for so long the host is away
            fleet.host.start()
        clients.assert_complete()
    for worker in others:
        worker.start()
    await eventually(lambda: fleet.readiness()[0] == 200, PATIENCE, "the fleet is ready")
