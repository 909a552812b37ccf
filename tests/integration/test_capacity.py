"""A model that takes fewer requests at once than its workers would give it: the others wait in the gateways."""

import asyncio
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.faults.crowd import assert_cut, crowd
from tests.harness.chat import ask, assert_complete
from tests.harness.fleet import Fleet, model_entries
from tests.harness.waiting import eventually
from tests.schedule import Schedule

SLOTS = 3
numbers = itertools.count()


def schedules(count: int, **fields: Any) -> list[Schedule]:
    return [Schedule(tag=f"slot-{next(numbers)}", **fields) for _ in range(count)]


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    """Two workers that share a model of three slots, and a queue of five."""
    made = Fleet(workers=0, start=False, settings={"GATEWAY_QUEUE_LIMIT": "5", "GATEWAY_QUEUE_TIMEOUT": "60"})
    entry = model_entries(made.backend.url, "key")["models"]["test"] | {"concurrency": "${SLOTS}"}
    models = Path(made.folder / "models.yaml")
    models.write_text(yaml.safe_dump({"models": {"test": entry}}))
    for _ in range(2):
        made.new_worker(WORKER_MODELS=str(models), SLOTS=str(SLOTS))
    with made:
        made.start()
        made.wait_until_ready(workers=2)
        yield made


async def test_the_queue_and_its_429_are_at_the_gateway_and_the_load_is_true(fleet: Fleet) -> None:
    def load() -> Any:
        return fleet.status()["load"]

    assert load() == {"active": 0, "waiting": 0, "capacity": SLOTS, "ratio": 0.0, "workers_ratio": 0.0}
    running, queued = schedules(SLOTS, tokens=10, first_delay=12.0), schedules(5, tokens=10)
    asked = [*running, *queued]
    async with asyncio.TaskGroup() as group:
        replies = [group.create_task(ask(fleet.address, said, model="test")) for said in running]
        await eventually(lambda: fleet.backend.active() == SLOTS, what="every place is taken")
        replies += [group.create_task(ask(fleet.address, said, model="test")) for said in queued]
        await eventually(lambda: load()["waiting"] == 5, 10, "five wait")
        refused = await ask(fleet.address, schedules(1)[0], model="test")
        assert (refused.status, refused.error["code"]) == (429, "queue_full")
        found = load()
        assert (found["active"], found["capacity"]) == (SLOTS, SLOTS)
        assert found["ratio"] == round((SLOTS + 5) / SLOTS, 4)
        assert found["workers_ratio"] == 0.5, "more workers would not help"
    for reply, said in zip(replies, asked, strict=True):
        assert_complete(reply.result(), said)
    assert fleet.backend.peak() == SLOTS


async def test_a_worker_that_dies_gives_its_places_back(fleet: Fleet) -> None:
    async with crowd(fleet.address, schedules(SLOTS, tokens=1000, delay=0.05)) as running:
        await running.all_have_text()  # before it, a request is tried again
        fleet.workers[0].kill()
        fleet.workers[1].kill()
        fleet.workers[1].start()
        later = schedules(SLOTS, tokens=5)
        for reply, said in zip(
            await asyncio.gather(*(ask(fleet.address, said, model="test") for said in later)), later, strict=True
        ):
            assert_complete(reply, said)
    for client in running:
        assert_cut(client, "worker_lost")


async def test_gateways_share_the_model_while_requests_wait_at_both(fleet: Fleet) -> None:
    fleet.new_gateway(GATEWAY_QUEUE_LIMIT="20").start()
    await eventually(lambda: len((fleet.status(1) or {}).get("workers", [])) == 2, 30, "the second knows the workers")
    done, stop = [0, 0], asyncio.Event()

    async def ask_again_and_again(gateway: int) -> None:
        while not stop.is_set():
            (said,) = schedules(1, tokens=5, first_delay=0.3)
            assert_complete(await ask(fleet.addresses[gateway], said, model="test"), said)
            done[gateway] += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(SLOTS + 2):  # the first takes every place before the second has a request
            group.create_task(ask_again_and_again(0))
        await eventually(lambda: done[0] >= SLOTS, 20, "the first gateway has all places")
        for _ in range(SLOTS + 2):
            group.create_task(ask_again_and_again(1))
        first = done[0]
        await eventually(lambda: done[1] >= 20, 60, "the second gateway's requests are served")
        later = done[0] - first
        await eventually(lambda: done[0] - first > later, 30, "the first gateway's too")
        stop.set()
    assert later < 100, "the second gateway starved for a while"
