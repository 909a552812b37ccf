"""A worker dies or stands still."""

import asyncio
import time
from collections.abc import Callable

from tests.faults.crowd import CROWD, Client, Say, assert_cut, by_worker, crowd, queue_length, schedules
from tests.faults.standing import member_id
from tests.harness.fleet import Fleet
from tests.harness.waiting import SOON, eventually, until
from tests.schedule import Schedule


async def test_a_worker_killed_before_any_first_token_costs_nobody_anything(fleet: Fleet, figures: Say) -> None:
    fleet.backend.process.freeze()  # so that no token can come before the kill
    async with crowd(fleet.address, schedules("early")) as clients:
        await eventually(lambda: fleet.active() == CROWD, SOON, "the workers have taken on every request")
        running = fleet.status()["workers"]
        fleet.workers[0].kill()
        killed = time.monotonic()
        fleet.backend.process.thaw()
    clients.assert_complete()
    last = max(client.heard_at[0] for client in clients)
    figures(f"{[worker['active'] for worker in running]} ran; the last first token {last - killed:.2f} s after SIGKILL")
    assert min(worker["active"] for worker in running) > 0.3 * CROWD


async def test_a_worker_killed_in_mid_stream_ends_its_own_streams_and_no_other(fleet: Fleet, figures: Say) -> None:
    async with crowd(fleet.address, schedules("mid", tokens=50, delay=0.2)) as clients:
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
    assert ends[-1] < 8, "a worker of which nobody tells has 30 s"


async def test_a_worker_that_stands_still_for_5_s_pauses_its_streams_and_gets_nothing_new(
    fleet: Fleet, figures: Say
) -> None:
    early: list[Client] = []
    late: list[Client] = []
    began: dict[Client, float] = {}

    async def keep_asking(group: asyncio.TaskGroup, asked: list[Client], stop: Callable[[], bool]) -> None:
        while not stop():
            client = Client(fleet.address, Schedule(tag=f"new-{len(began)}", tokens=3))
            began[client] = time.monotonic()
            asked.append(client)
            group.create_task(client.run())
            await asyncio.sleep(0.1)

    def is_silent() -> bool:
        return any(one["id"] == name and one["state"] == "SILENT" for one in fleet.status()["workers"])

    name = member_id(fleet.workers[0])
    async with crowd(fleet.address, schedules("still", tokens=50, delay=0.2)) as clients:
        await clients.all_have_text()
        fleet.workers[0].freeze()
        frozen = time.monotonic()
        async with asyncio.TaskGroup() as group:
            noticing = asyncio.create_task(eventually(is_silent, 6, "the gateway notices"))
            await keep_asking(group, early, noticing.done)
            await noticing
            noticed = time.monotonic() - frozen
            await keep_asking(group, late, lambda: time.monotonic() > frozen + 5 and len(late) >= 10)
            await until(lambda: all(client.ended for client in early + late), 3, "all went elsewhere")
            fleet.workers[0].thaw()
    clients.assert_complete()
    waits = []
    for client, since in began.items():
        client.assert_complete()
        waits.append((client.ended_at or 0) - since)
    figures(f"longest pause of a stream {clients.longest_pause:.2f} s")
    figures(f"noticed after {noticed:.2f} s")
    figures(f"new requests waited {max(waits):.2f} s at most, from then on {max(waits[len(early) :]):.2f} s")
    assert {*by_worker(fleet, late)} == {"worker-1"}


async def test_a_worker_killed_while_50_requests_queue_leaves_none_hanging(narrow_fleet: Fleet, figures: Say) -> None:
    fleet = narrow_fleet
    async with crowd(fleet.address, schedules("running", 8, tokens=60, delay=0.15)) as running:
        await running.all_have_text()
        async with crowd(fleet.address, schedules("queued", 50, first_delay=0.1)) as queued:
            await eventually(lambda: queue_length(fleet) == 50, SOON, "50 requests wait")
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
