"""The queue in front of the workers."""

import asyncio
import time

import pytest

from gateway.admission import Admission, Lease
from gateway.breaker import Breakers
from gateway.directory import Directory
from gateway.errors import Busy, Unavailable, UnknownModel
from protos import chat_pb2 as pb


def admission(capacity: int = 1, limit: int = 10, timeout: float = 5.0) -> tuple[Admission, Directory]:
    directory = Directory("g", 30.0)
    if capacity:
        enter(directory, capacity=capacity)
    made = Admission(directory, Breakers(), limit, timeout)
    made.linked = True
    return made, directory


def enter(directory: Directory, worker_id: str = "w", capacity: int = 1, models: tuple[str, ...] = ("m",)) -> None:
    status = pb.WorkerStatus(worker_id=worker_id, models=models, capacity=capacity, state=pb.WORKER_STATE_READY)
    directory.heard(status, time.monotonic())


async def settled(*tasks: asyncio.Task[Lease]) -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_room_is_given_at_once_and_given_back() -> None:
    queue, directory = admission()
    with await queue.lease("m") as worker:
        assert worker.in_flight == 1
    assert [worker.in_flight for worker in directory] == [0]


async def test_those_who_wait_are_served_in_their_order() -> None:
    queue, _ = admission()
    first = await queue.lease("m")
    order: list[int] = []

    async def wait(number: int) -> None:
        with await queue.lease("m"):
            order.append(number)

    async with asyncio.TaskGroup() as group:
        for number in range(5):
            group.create_task(wait(number))
        await settled()
        assert queue.waiting == 5
        first.__exit__()
    assert order == [0, 1, 2, 3, 4]
    assert queue.waiting == 0


async def test_a_full_queue_turns_the_next_one_away() -> None:
    queue, _ = admission(limit=1)
    await queue.lease("m")
    waiting = asyncio.create_task(queue.lease("m"))
    await settled()
    with pytest.raises(Busy) as refused:
        await queue.lease("m")
    assert (refused.value.code, refused.value.headers()) == ("queue_full", {"retry-after": "1"})
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert queue.waiting == 0


async def test_a_queue_of_none_still_gives_what_is_free() -> None:
    queue, _ = admission(limit=0)
    await queue.lease("m")
    with pytest.raises(Busy):
        await queue.lease("m")


async def test_the_wait_ends() -> None:
    queue, _ = admission(timeout=0.01)
    await queue.lease("m")
    with pytest.raises(Busy) as refused:
        await queue.lease("m")
    assert refused.value.code == "queue_timeout"


async def test_without_any_worker_the_wait_ends_in_503() -> None:
    queue, _ = admission(capacity=0, timeout=0.01)
    with pytest.raises(Unavailable) as refused:
        await queue.lease("m")
    assert refused.value.code == "no_worker"


async def test_a_worker_that_comes_takes_who_waits() -> None:
    queue, directory = admission(capacity=0)
    waiting = asyncio.create_task(queue.lease("m"))
    await settled()
    enter(directory)
    queue.look()
    assert (await waiting).worker.id == "w"


async def test_while_the_link_is_down_nobody_is_asked() -> None:
    queue, _ = admission(timeout=0.01)
    queue.linked = False
    with pytest.raises(Unavailable) as refused:
        await queue.lease("m")
    assert refused.value.code == "link_lost"


async def test_an_unknown_model_is_refused_at_once_and_also_in_the_queue() -> None:
    queue, directory = admission()
    with pytest.raises(UnknownModel, match="'x' is not served here; these are: m"):
        await queue.lease("x")
    empty, directory = admission(capacity=0)
    waiting = asyncio.create_task(empty.lease("x"))
    await settled()
    enter(directory)
    empty.look()
    with pytest.raises(UnknownModel):
        await waiting


async def test_a_model_without_room_does_not_hold_up_another() -> None:
    queue, directory = admission()
    enter(directory, "other", models=("n",))
    await queue.lease("m")
    waiting = asyncio.create_task(queue.lease("m"))
    await settled()
    assert (await queue.lease("n")).worker.id == "other"
    waiting.cancel()


async def test_a_place_granted_to_one_who_just_left_goes_to_the_next() -> None:
    queue, directory = admission()
    first = await queue.lease("m")
    leaving = asyncio.create_task(queue.lease("m"))
    staying = asyncio.create_task(queue.lease("m"))
    await settled()
    first.__exit__()
    leaving.cancel()
    assert (await staying).worker.id == "w"
    assert [worker.in_flight for worker in directory] == [1]
