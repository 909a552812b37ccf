"""A worker dies or stands still."""

import asyncio
import time

from tests.faults.crowd import CROWD, Client, Say, assert_cut, by_worker, crowd, queue_length, schedules
from tests.harness.fleet import Fleet
from tests.harness.waiting import eventually
from tests.schedule import Schedule


async def test_a_worker_killed_before_any_first_token_costs_nobody_anything(fleet: Fleet, figures: Say) -> None:
    fleet.backend.process.freeze()  # so that no token can come before the kill
    async with crowd(fleet.address, schedules("early")) as clients:
        await eventually(lambda: fleet.active() == CROWD, 20, "the workers have taken on every request")
        running = fleet.status()["workers"]
        fleet.workers[0].kill()
        killed = time.monotonic()
        fleet.backend.process.thaw()
    clients.assert_complete()
    last = max(client.heard_at[0] for client in clients)
    figures(f"{[worker['active'] for worker in running]} ran; the last first token {last - killed:.2f} s after SIGKILL")
    assert min(worker["active"] for worker in running) > 0.3 * CROWD


async def test_a_worker_killed_in_mid_stream_ends_its_own_streams_and_no_other(fleet: Fleet, figures: Say) -> None:
    async with crowd(fleet.address, schedules("mid", tokens=20, delay=0.2)) as clients:
        await clients.all_have_text()
        streams = by_worker(fleet, clients)
        fleet.workers[0].kill()
        killed = time.monotonic()
    for client in streams["worker-0"]:
        assert_cut(client, "worker_lost")
    for client in streams["worker-1"]:
        client.assert_complete()
    ends = sorted(client.ended_at - killed for client in streams["worker-0"] if client.ended_at)
    pause = max(client.longest_pause for client in streams["worker-1"])
    figures(f"{len(ends)} ended in an error {ends[0]:.2f} to {ends[-1]:.2f} s after SIGKILL")
    figures(f"{len(streams['worker-1'])} others had a longest pause of {pause:.2f} s")
    assert min(map(len, streams.values())) > 0.3 * CROWD
    assert ends[-1] < 2.5


async def test_a_worker_that_stands_still_for_5_s_pauses_its_streams_and_gets_nothing_new(
    fleet: Fleet, figures: Say
) -> None:
    asked: list[tuple[float, Client]] = []

    async def keep_asking(group: asyncio.TaskGroup, until: float) -> None:
        while time.monotonic() < until:
            client = Client(fleet.address, Schedule(tag=f"new-{len(asked)}", tokens=3))
            asked.append((time.monotonic(), client))
            group.create_task(client.run())
            await asyncio.sleep(0.1)

    async with crowd(fleet.address, schedules("still", tokens=40, delay=0.2)) as clients:
        await clients.all_have_text()
        fleet.workers[0].freeze()
        frozen = time.monotonic()
        async with asyncio.TaskGroup() as group:
            await keep_asking(group, frozen + 5)
            fleet.workers[0].thaw()
    clients.assert_complete()
    waits = []
    for since, client in asked:
        client.assert_complete()
        assert client.ended_at
        waits.append((since - frozen, client.ended_at - since))
    late = [wait for since, wait in waits if since >= 3]
    figures(f"longest pause of a stream {clients.longest_pause:.2f} s")
    figures(f"new requests waited {max(wait for _, wait in waits):.2f} s at most, from 3 s on {max(late):.2f} s")
    assert max(since + wait for since, wait in waits if since < 3) < 5, "those asked before 3 s went elsewhere"
    assert max(late) < 3
    assert {*by_worker(fleet, [client for since, client in asked if since - frozen >= 3])} == {"worker-1"}


async def test_a_worker_killed_while_50_requests_queue_leaves_none_hanging(narrow_fleet: Fleet, figures: Say) -> None:
    fleet = narrow_fleet
    async with crowd(fleet.address, schedules("running", 8, tokens=30, delay=0.15)) as running:
        await running.all_have_text()
        async with crowd(fleet.address, schedules("queued", 50, first_delay=0.1)) as queued:
            await eventually(lambda: queue_length(fleet) == 50, 20, "50 requests wait")
            streams = by_worker(fleet, running)
            fleet.workers[0].kill()
            killed = time.monotonic()
    queued.assert_complete()
    for client in streams["worker-0"]:
        assert_cut(client, "worker_lost")
    for client in streams["worker-1"]:
        client.assert_complete()
    assert all(len(clients) == 4 for clients in streams.values())
    figures(f"the last of the queue ended {max(c.ended_at or 0 for c in queued) - killed:.2f} s after SIGKILL")
