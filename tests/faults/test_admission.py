"""More is asked than the workers may do at once, or there is no worker at all."""

import asyncio
import time

from tests.faults.crowd import CROWD, Client, Say, assert_refused, crowd, queue_length, schedules
from tests.faults.standing import PATIENCE
from tests.harness.fleet import Fleet
from tests.harness.waiting import SOON, eventually, until

CAPACITY = 8
QUEUE = 200
FULL = {
    "active": CAPACITY,
    "waiting": QUEUE,
    "capacity": CAPACITY,
    "ratio": (CAPACITY + QUEUE) / CAPACITY,
    "workers_ratio": (CAPACITY + QUEUE) / CAPACITY,
}
OUT_OF_ORDER = 2 * CAPACITY
"""Places by which two workers that start four chats each may shuffle those that waited in line."""


async def test_300_requests_on_a_capacity_of_8_run_wait_in_order_or_are_refused(
    narrow_fleet: Fleet, figures: Say
) -> None:
    fleet = narrow_fleet
    clients = [Client(fleet.address, schedule) for schedule in schedules("line", 300, tokens=5, first_delay=0.05)]
    fleet.backend.process.freeze()  # so that none ends before all have come
    async with asyncio.TaskGroup() as group:
        for number, client in enumerate(clients, 1):
            client.task = group.create_task(client.run())
            await until(lambda client=client: client.sent, SOON, "the request is on its way")  # type: ignore[misc]
            if number == CAPACITY:
                await eventually(lambda: fleet.status()["gateway"]["in_flight"] == CAPACITY, SOON, "8 run")
        refused = clients[CAPACITY + QUEUE :]
        await until(lambda: all(client.ended for client in refused), SOON, "those beyond the queue are refused")
        assert queue_length(fleet) == QUEUE
        # Waited for: a worker that the machine has held up for 2.5 s does not count until it is heard again.
        await eventually(lambda: fleet.status()["load"] == FULL, SOON, "the load is that of a full queue")
        head = fleet.status()["queue"]["first"]
        fleet.backend.process.thaw()
        began = time.monotonic()
    for client in refused:
        assert_refused(client, 429, "queue_full")
    for client in clients[: CAPACITY + QUEUE]:
        client.assert_complete()
    order = [int(record["tag"].removeprefix("line-")) for record in fleet.backend.requests()]
    # What one worker holds may stand still with it.
    moved = sorted(abs(place - number) for place, number in enumerate(order))[-CAPACITY - 1]
    figures(f"{len(refused)} got 429; {len(order)} succeeded, the last {time.monotonic() - began:.1f} s later")
    figures(f"at most {fleet.backend.peak()} at a time; at most {moved} places out of order, but for one worker's")
    assert [entry["position"] for entry in head] == list(range(1, len(head) + 1))
    assert fleet.backend.peak() == CAPACITY
    assert moved <= OUT_OF_ORDER


async def test_without_a_worker_requests_wait_for_the_first_or_for_as_long_as_they_may(
    narrow_fleet: Fleet, figures: Say
) -> None:
    fleet = narrow_fleet
    patience = 2.0
    hasty = fleet.new_gateway(GATEWAY_QUEUE_TIMEOUT=str(patience))
    hasty.start()
    await eventually(lambda: "worker found" in hasty.log(), PATIENCE, "the hasty gateway knows a worker")
    for worker in fleet.workers:
        assert worker.stop() == 0
    for gateway in (0, -1):
        await eventually(lambda gateway=gateway: not fleet.status(gateway)["workers"], SOON, "no worker is there")  # type: ignore[misc]
    began = time.monotonic()
    async with (
        crowd(fleet.address, schedules("first")) as waiting,
        crowd(fleet.addresses[-1], schedules("never")) as refused,
    ):
        await eventually(lambda: queue_length(fleet) == CROWD, SOON, "all wait")
        await asyncio.sleep(3)  # not for a state: for so long nobody is there
        started = time.monotonic()
        fleet.workers[0].start()
    waiting.assert_complete()
    figures(f"the first answer {min(client.heard_at[0] for client in waiting) - started:.2f} s after a worker's start")
    ends = [(client.ended_at or 0) - began for client in refused]
    for client in refused:
        assert_refused(client, 503, "no_worker")
    figures(f"without any worker refused after {min(ends):.2f} to {max(ends):.2f} s")
    assert patience <= min(ends) <= max(ends) < patience + 10, "30 s is what another gateway gives them"
