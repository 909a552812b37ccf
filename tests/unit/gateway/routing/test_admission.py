"""The queue in front of the workers."""

import asyncio
from collections.abc import Callable

import pytest

from gateway.errors import Busy, GatewayError, Unavailable, UnknownModel
from gateway.routing.admission import Admission, Claim, Lease
from gateway.routing.breaker import Breakers
from gateway.routing.directory import Directory
from protos import chat_pb2 as pb
from tests.harness.virtual import virtual


def admission(
    capacity: int = 1, limit: int = 10, timeout: float = 60.0, clock: Callable[[], float] = lambda: 0.0
) -> tuple[Admission, Directory]:
    """By default no time passes on its clock, so that no worker falls silent, however slow the machine is."""
    directory = Directory("g", 30.0)
    if capacity:
        enter(directory, capacity=capacity, now=clock())
    made = Admission(directory, Breakers(), limit, timeout, clock)
    made.linked = True
    return made, directory


def enter(
    directory: Directory,
    worker_id: str = "w",
    capacity: int = 1,
    models: tuple[str, ...] = ("m",),
    now: float = 0.0,
) -> None:
    status = pb.WorkerStatus(worker_id=worker_id, models=models, capacity=capacity, state=pb.WORKER_STATE_READY)
    directory.heard(status, now)


async def again(queue: Admission, *avoid: str) -> Claim:
    """A claim of a request whose first attempt is over."""
    claim = Claim("m")
    with await queue.lease(claim) as worker:
        claim.avoid.update(avoid or {worker.id})
    return claim


async def settled(*tasks: asyncio.Task[Lease]) -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_room_is_given_at_once_and_given_back() -> None:
    queue, directory = admission()
    with await queue.lease(Claim("m")) as worker:
        assert worker.in_flight == 1
    assert [worker.in_flight for worker in directory] == [0]


async def test_those_who_wait_are_served_in_their_order() -> None:
    queue, _ = admission()
    first = await queue.lease(Claim("m"))
    order: list[int] = []

    async def wait(number: int) -> None:
        with await queue.lease(Claim("m")):
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
    await queue.lease(Claim("m"))
    waiting = asyncio.create_task(queue.lease(Claim("m")))
    await settled()
    with pytest.raises(Busy) as refused:
        await queue.lease(Claim("m"))
    assert (refused.value.code, refused.value.headers()["retry-after"]) == ("queue_full", "1")
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert queue.waiting == 0


async def test_a_queue_of_none_still_gives_what_is_free() -> None:
    queue, _ = admission(limit=0)
    await queue.lease(Claim("m"))
    with pytest.raises(Busy):
        await queue.lease(Claim("m"))


async def test_the_wait_ends() -> None:
    queue, _ = admission(timeout=0.01)
    await queue.lease(Claim("m"))
    with pytest.raises(Busy) as refused:
        await queue.lease(Claim("m"))
    assert refused.value.code == "queue_timeout"


async def test_without_any_worker_the_wait_ends_in_503() -> None:
    queue, _ = admission(capacity=0, timeout=0.01)
    with pytest.raises(Unavailable) as refused:
        await queue.lease(Claim("m"))
    assert refused.value.code == "no_worker"


async def test_a_worker_that_comes_takes_who_waits() -> None:
    queue, directory = admission(capacity=0)
    waiting = asyncio.create_task(queue.lease(Claim("m")))
    await settled()
    enter(directory)
    queue.dispatch()
    assert (await waiting).worker.id == "w"


async def test_while_the_link_is_down_nobody_is_asked() -> None:
    queue, _ = admission(timeout=0.01)
    queue.linked = False
    with pytest.raises(Unavailable) as refused:
        await queue.lease(Claim("m"))
    assert refused.value.code == "link_lost"


async def test_an_unknown_model_is_refused_at_once_and_also_in_the_queue() -> None:
    queue, directory = admission()
    with pytest.raises(UnknownModel, match="'x' is not served here; these are: m"):
        await queue.lease(Claim("x"))
    empty, directory = admission(capacity=0)
    waiting = asyncio.create_task(empty.lease(Claim("x")))
    await settled()
    enter(directory)
    empty.dispatch()
    with pytest.raises(UnknownModel):
        await waiting


async def test_a_model_without_room_does_not_hold_up_another() -> None:
    queue, directory = admission()
    enter(directory, "other", models=("n",))
    await queue.lease(Claim("m"))
    waiting = asyncio.create_task(queue.lease(Claim("m")))
    await settled()
    assert (await queue.lease(Claim("n"))).worker.id == "other"
    waiting.cancel()


async def test_a_place_granted_to_one_who_just_left_goes_to_the_next() -> None:
    queue, directory = admission()
    first = await queue.lease(Claim("m"))
    leaving = asyncio.create_task(queue.lease(Claim("m")))
    staying = asyncio.create_task(queue.lease(Claim("m")))
    await settled()
    first.__exit__()
    leaving.cancel()
    assert (await staying).worker.id == "w"
    assert [worker.in_flight for worker in directory] == [1]


async def test_a_place_is_not_given_to_one_that_leaves_in_the_same_moment() -> None:
    queue, directory = admission()
    first = await queue.lease(Claim("m"))
    leaving = asyncio.create_task(queue.lease(Claim("m")))
    staying = asyncio.create_task(queue.lease(Claim("m")))
    await settled()
    leaving.cancel()
    first.__exit__()  # before the one that leaves has had its turn
    assert (await staying).worker.id == "w"
    assert [worker.in_flight for worker in directory] == [1]
    assert queue.waiting == 0


# ---------------------------------------------------------------- further attempts


@virtual
async def test_all_waits_of_a_request_together_are_bounded() -> None:
    clock = asyncio.get_running_loop().time
    queue, directory = admission(timeout=5, clock=clock)
    held = await queue.lease(Claim("m"))
    claim = Claim("m")
    waiting = asyncio.create_task(queue.lease(claim))
    await asyncio.sleep(4)
    enter(directory, now=clock())
    held.__exit__()
    lease = await waiting
    await asyncio.sleep(100)  # while it runs no waiting counts
    enter(directory, now=clock())
    lease.__exit__()
    held = await queue.lease(Claim("m"))
    with pytest.raises(GatewayError) as refused:
        await queue.lease(claim)
    assert refused.value.code == "queue_timeout"
    assert clock() == pytest.approx(105)
    assert claim.waited == pytest.approx(5)


@virtual
async def test_a_request_that_has_waited_enough_still_gets_what_is_free() -> None:
    queue, _ = admission(timeout=5, clock=asyncio.get_running_loop().time)
    assert (await queue.lease(Claim("m", waited=5))).worker.id == "w"


async def test_those_that_come_again_go_first() -> None:
    queue, _ = admission()
    claim = await again(queue)
    held = await queue.lease(Claim("m"))
    order: list[str] = []

    async def wait(name: str, claim: Claim) -> None:
        with await queue.lease(claim):
            order.append(name)

    async with asyncio.TaskGroup() as group:
        for number in range(3):
            group.create_task(wait(f"new {number}", Claim("m")))
        await settled()
        group.create_task(wait("again", claim))
        await settled()
        first: object = queue.describe()["first"]
        assert isinstance(first, list)
        assert len(first) == 4
        held.__exit__()
    assert order == ["again", "new 0", "new 1", "new 2"]


async def test_one_that_comes_again_to_a_full_queue_takes_the_place_of_the_latest() -> None:
    queue, _ = admission(limit=2)
    claim = await again(queue)
    await queue.lease(Claim("m"))
    earlier = asyncio.create_task(queue.lease(Claim("m")))
    latest = asyncio.create_task(queue.lease(Claim("m")))
    await settled()
    returned = asyncio.create_task(queue.lease(claim))
    await settled()
    assert queue.waiting == 2
    with pytest.raises(Busy) as refused:
        await latest
    assert refused.value.code == "queue_full"
    assert not earlier.done()
    assert not returned.done()
    for task in (earlier, returned):
        task.cancel()
    await asyncio.gather(earlier, returned, return_exceptions=True)
    assert queue.waiting == 0


async def test_a_queue_that_is_full_of_those_that_come_again_refuses_another() -> None:
    queue, _ = admission(limit=1)
    claims = [await again(queue), await again(queue)]
    await queue.lease(Claim("m"))
    first = asyncio.create_task(queue.lease(claims[0]))
    await settled()
    with pytest.raises(Busy):
        await queue.lease(claims[1])
    assert queue.waiting == 1
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)


async def test_one_that_avoids_a_worker_waits_for_another_and_holds_up_none() -> None:
    queue, directory = admission()
    enter(directory, "other")
    claim = await again(queue, "w")
    held = await queue.lease(Claim("m", avoid={"w"}))
    assert held.worker.id == "other"
    returned = asyncio.create_task(queue.lease(claim))
    await settled()
    assert (await queue.lease(Claim("m"))).worker.id == "w"
    assert not returned.done()
    held.__exit__()
    assert (await returned).worker.id == "other"


async def test_models_that_share_a_worker_are_served_by_arrival() -> None:
    queue, directory = admission(capacity=0)
    enter(directory, models=("m", "n"))
    held = await queue.lease(Claim("m"))
    order: list[str] = []

    async def wait(model: str) -> None:
        with await queue.lease(Claim(model)):
            order.append(model)

    async with asyncio.TaskGroup() as group:
        for model in "mnnmn":
            group.create_task(wait(model))
            await settled()
        held.__exit__()
    assert order == list("mnnmn")


async def test_a_dispatch_asks_once_for_all_that_wait_for_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    queue, _ = admission(limit=5000)
    await queue.lease(Claim("m"))
    waiting = [asyncio.create_task(queue.lease(Claim("m"))) for _ in range(2000)]
    await settled()
    asked = 0

    def refuse(*_: object) -> None:
        nonlocal asked
        asked += 1

    monkeypatch.setattr("gateway.routing.admission.choose", refuse)
    queue.dispatch()
    assert asked == 1
    assert queue.waiting == 2000
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert queue.waiting == 0


async def test_the_queue_says_who_waits_for_how_long() -> None:
    now = 100.0
    queue, _ = admission(clock=lambda: now)
    await queue.lease(Claim("m"))
    tasks = []
    for _ in range(2):
        tasks.append(asyncio.create_task(queue.lease(Claim("m"))))
        await settled()
        now += 1
    shown = queue.describe()
    assert (shown["waiting"], shown["oldest_seconds"]) == (2, 2.0)
    assert shown["first"] == [
        {"position": 1, "model": "m", "waited_seconds": 2.0},
        {"position": 2, "model": "m", "waited_seconds": 1.0},
    ]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_request_goes_to_a_worker_whose_model_has_its_endpoint() -> None:
    queue, directory = admission(capacity=5)
    status = pb.WorkerStatus(worker_id="v", models=["m", "n"], capacity=1, state=pb.WORKER_STATE_READY)
    for model in "mn":
        status.endpoints[model].names.append("embeddings")
    directory.heard(status, 0.0)
    held = await queue.lease(Claim("m", "embeddings"))
    assert held.worker.id == "v"
    waiting = asyncio.create_task(queue.lease(Claim("m", "embeddings")))
    await settled()
    assert queue.waiting == 1, "it waits, and does not go to the worker without the endpoint"
    assert (await queue.lease(Claim("m"))).worker.id == "w"
    with held:
        pass
    assert (await waiting).worker.id == "v"
    with pytest.raises(UnknownModel) as refused:
        await queue.lease(Claim("m", "completions"))
    assert refused.value.message.endswith("these models are: none")
    with pytest.raises(UnknownModel) as refused:
        await queue.lease(Claim("x", "embeddings", allows=lambda name: name == "n"))
    assert refused.value.message.endswith("these models are: n")


async def test_requests_for_a_model_at_its_own_limit_wait_in_order_and_hold_up_no_other() -> None:
    queue, directory = admission(capacity=0)
    status = pb.WorkerStatus(worker_id="w", models=["m", "n"], capacity=5, state=pb.WORKER_STATE_READY)
    status.details["m"].concurrency = 1
    directory.heard(status, 0.0)
    held = await queue.lease(Claim("m"))
    order: list[int] = []

    async def wait(number: int, model: str) -> None:
        with await queue.lease(Claim(model)):
            order.append(number)

    async with asyncio.TaskGroup() as group:
        for number, model in enumerate(("m", "", "m")):  # the first model is the default
            group.create_task(wait(number, model))
        await settled()
        with await queue.lease(Claim("n")) as worker:
            assert (worker.in_flight, worker.limited["m"].in_flight) == (2, 1)
        assert order == []
        held.__exit__()
    assert order == [0, 1, 2]
    assert (worker.in_flight, worker.limited["m"].in_flight) == (0, 0)


async def test_a_place_of_a_limited_model_is_given_back_by_one_that_left() -> None:
    queue, directory = admission(capacity=0)
    status = pb.WorkerStatus(worker_id="w", models=["m"], capacity=5, state=pb.WORKER_STATE_READY)
    status.details["m"].concurrency = 1
    directory.heard(status, 0.0)
    first = await queue.lease(Claim("m"))
    leaving = asyncio.create_task(queue.lease(Claim("m")))
    staying = asyncio.create_task(queue.lease(Claim("m")))
    await settled()
    first.__exit__()
    leaving.cancel()
    (await staying).__exit__()
    [worker] = directory
    assert (worker.in_flight, worker.limited["m"].in_flight) == (0, 0)
