"""Which requests a worker runs, and which it refuses."""

import asyncio
import math
import time
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from fleet.lane import Outbox
from protos import chat_pb2 as pb
from tests.harness.waiting import until
from worker.contract.observer import Observer
from worker.contract.route import Route
from worker.contract.sink import Sink
from worker.serving.offer import Offer
from worker.serving.registry import Registry


class Slow:
    """A service that writes nothing until it may go on, and takes its time to stop."""

    def __init__(self) -> None:
        self.running = 0
        self.go_on = asyncio.Event()
        self.may_stop = asyncio.Event()

    async def run(self, request: pb.ChatHistory, sink: Sink) -> pb.Done:
        self.running += 1
        try:
            await self.go_on.wait()
            return pb.Done(finish_reason="stop")
        finally:
            await self.may_stop.wait()
            self.running -= 1


class Sent:
    """What a worker sends to gateways."""

    def __init__(self) -> None:
        self.chunks: list[pb.ReplyEvent] = []
        self._received = Counter[str]()
        """Numbers of the gateways' last batches: one that is not acknowledged is sent again after a second."""

    def __call__(self, gateway_id: str, batch: pb.ChunkBatch) -> None:
        if batch.number > self._received[gateway_id]:
            self._received[gateway_id] = batch.number
            self.chunks.extend(batch.events)

    def ends(self, request_id: str, attempt: int) -> list[str]:
        """Codes of the errors that ended an attempt, or how else it ended."""
        mine = [chunk for chunk in self.chunks if (chunk.request_id, chunk.attempt) == (request_id, attempt)]
        return [
            chunk.error.code if kind == "error" else str(kind)
            for chunk in mine
            if (kind := chunk.WhichOneof("event")) in ("done", "error", "cancelled")
        ]


@pytest.fixture
def service() -> Slow:
    return Slow()


@pytest.fixture
def sent() -> Sent:
    return Sent()


@pytest.fixture
async def registry(service: Slow, sent: Sent) -> AsyncIterator[Registry]:
    outbox = Outbox("w", sent, 0.001)
    outbox.link_up()
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        made = Registry(
            {"m": Offer(service), "one": Offer(service, concurrency=1)}, outbox, 2, group, Observer(), histories=100
        )
        yield made
        service.may_stop.set()
        made.cancel_all("shutdown")


def asked(request_id: str, attempt: int = 1, model: str = "m") -> pb.ChatHistory:
    return pb.ChatHistory(request_id=request_id, attempt=attempt, reply_to="g", model=model)


def large(request_id: str, attempt: int = 1) -> pb.ChatHistory:
    history = asked(request_id, attempt)
    history.messages.add(role=pb.ROLE_USER).content.add(text="x" * 200)
    return history


async def test_a_newer_attempt_takes_the_place_of_the_older_at_capacity(
    registry: Registry, service: Slow, sent: Sent
) -> None:
    for request_id in ("a", "b"):
        registry.begin(asked(request_id))
    await until(lambda: service.running == 2)
    registry.begin(asked("a", 2))
    assert registry.active == 2
    registry.begin(asked("c"))
    registry.begin(asked("a", 1))  # late: it was replaced
    await until(lambda: sent.ends("c", 1) == ["worker_full"])
    service.may_stop.set()
    await until(lambda: sent.ends("a", 1) == ["cancelled"])
    service.go_on.set()
    await until(lambda: sent.ends("a", 2) == ["done"])
    await until(lambda: registry.active == 0)
    assert sent.ends("b", 1) == ["done"]


async def test_a_request_whose_id_is_long_is_ignored(registry: Registry) -> None:
    registry.begin(asked("a" * 129))
    assert (registry.active, registry.started_total) == (0, 0)
    registry.begin(asked("a" * 128))
    assert registry.active == 1


async def test_large_requests_whose_model_has_not_answered_are_bounded_together(
    registry: Registry, service: Slow, sent: Sent
) -> None:
    service.may_stop.set()
    registry.begin(large("a"))  # one alone may be larger
    registry.begin(large("b"))
    await until(lambda: sent.ends("b", 1) == ["worker_full"])
    service.go_on.set()
    await until(lambda: sent.ends("a", 1) == ["done"])
    registry.begin(large("b", 2))
    await until(lambda: sent.ends("b", 2) == ["done"])


async def test_a_place_that_was_taken_over_is_free_once_the_newer_attempt_has_ended(
    registry: Registry, service: Slow, sent: Sent
) -> None:
    service.may_stop.set()
    registry.begin(asked("a"))
    registry.begin(asked("b"))
    for attempt in range(2, 6):
        registry.begin(asked("a", attempt))
        assert registry.active == 2
    service.go_on.set()
    await until(lambda: sent.ends("a", 5) == ["done"])
    await until(lambda: registry.active == 0)
    registry.begin(asked("c"))
    await until(lambda: sent.ends("c", 1) == ["done"])


async def test_a_worker_that_drains_refuses_newer_attempts(registry: Registry, service: Slow, sent: Sent) -> None:
    service.may_stop.set()
    registry.begin(asked("a"))
    registry.draining = True
    registry.begin(asked("a", 2))
    await until(lambda: sent.ends("a", 2) == ["worker_draining"])
    await until(lambda: sent.ends("a", 1) == ["cancelled"])


async def test_a_request_may_wait_again_once_the_reply_of_another_has_begun(registry: Registry, sent: Sent) -> None:
    class Writes(Slow):
        async def run(self, request: pb.ChatHistory, sink: Sink) -> pb.Done:
            sink.text("a")
            return await super().run(request, sink)

    writes = Writes()
    registry.offers["m"] = Offer(writes)
    registry.begin(large("a"))
    await until(lambda: any(chunk.text for chunk in sent.chunks))
    registry.begin(large("b"))
    assert registry.active == 2
    writes.may_stop.set()


async def test_a_run_that_began_after_its_gateway_was_asked_goes_on(registry: Registry, service: Slow) -> None:
    service.may_stop.set()
    registry.begin(asked("older"))
    await asyncio.sleep(0.001)
    knew = time.monotonic()
    registry.begin(asked("newer"))
    assert registry.keep_only("g", set(), knew)
    assert registry.keep_only("g", {("newer", 1)}, 0.0) is False, "the older one is about to end"
    await until(lambda: [run.request_id for run in registry._runs.values()] == ["newer"])
    assert registry.keep_only("g", set(), knew)
    assert not registry.keep_only("g", {("newer", 1)}, knew)
    assert not registry.keep_only("g", set(), time.monotonic())
    await registry.idle()


async def test_a_gateways_runs_are_its_own(registry: Registry, service: Slow, sent: Sent) -> None:
    service.may_stop.set()
    other = asked("a")
    other.reply_to = "h"
    registry.begin(asked("a"))
    registry.begin(other)
    assert registry.counts() == {"m": {"g": 1, "h": 1}}
    assert not registry.keep_only("h", set(), math.inf)
    await until(lambda: registry.counts() == {"m": {"g": 1}})
    assert not registry.keep_only("g", {("a", 1)}, math.inf)
    assert registry.cancel_gateway("h") == 0
    assert registry.cancel_gateway("g") == 1
    await registry.idle()
    assert [chunk.cancelled.reason for chunk in sent.chunks if chunk.HasField("cancelled")] == [
        "unknown_request",
        "gateway_gone",
    ]


async def test_a_model_that_is_not_served_is_refused_and_none_means_the_first(
    registry: Registry, service: Slow, sent: Sent
) -> None:
    service.may_stop.set()
    request = asked("a")
    request.model = "other"
    registry.begin(request)
    request = asked("b")
    request.model = ""
    registry.begin(request)
    await until(lambda: sent.ends("a", 1) == ["unknown_model"])
    assert registry.active == 1


async def test_a_name_at_its_own_limit_is_refused_and_the_others_run(
    registry: Registry, service: Slow, sent: Sent
) -> None:
    service.may_stop.set()
    registry.begin(asked("a", model="one"))
    registry.begin(asked("b", model="one"))
    await until(lambda: sent.ends("b", 1) == ["worker_full"])
    assert [chunk.error.full for chunk in sent.chunks if chunk.HasField("error")] == ["one"]
    registry.begin(asked("a", 2, model="one"))  # in the place of its own older attempt
    registry.begin(asked("c"))
    assert registry.counts() == {"one": {"g": 1}, "m": {"g": 1}}
    registry.begin(asked("d"))
    await until(lambda: sent.ends("d", 1) == ["worker_full"])
    assert [chunk.error.full for chunk in sent.chunks if chunk.HasField("error")] == ["one", ""]
    service.go_on.set()
    await until(lambda: registry.active == 0)
    registry.begin(asked("b", 2, model="one"))
    await until(lambda: sent.ends("b", 2) == ["done"])


async def test_names_of_one_server_have_their_places_together(service: Slow, sent: Sent) -> None:
    one, other = Offer(service, Route("a", 1, server=7), concurrency=2), Offer(service, Route("b", 2, server=8))
    offers = {"m": one, "n": one, "free": other, "agent": Offer(service, concurrency=2)}
    outbox = Outbox("w", sent, 0.001)
    outbox.link_up()
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        registry = Registry(offers, outbox, 10, group, Observer())
        for number, model in enumerate(["m", "n", "m", "free", "agent", "n"]):
            registry.begin(asked(str(number), model=model))
        await until(lambda: [chunk.error.full for chunk in sent.chunks if chunk.HasField("error")] == ["m", "n"])
        await until(lambda: service.running == 4)
        service.go_on.set()
        service.may_stop.set()
    assert Registry({"m": one, "n": one}, Outbox("w", sent, 0.001), 10, group, Observer()).capacity == 2


async def test_the_capacity_is_no_more_than_all_names_take_together(service: Slow, sent: Sent) -> None:
    def capacity(*concurrency: int | None) -> int:
        offers = {str(number): Offer(service, concurrency=limit) for number, limit in enumerate(concurrency)}
        return Registry(offers, Outbox("w", sent, 0.001), 10, asyncio.TaskGroup(), Observer()).capacity

    assert [capacity(2, 3), capacity(2, None), capacity(8, 8)] == [5, 10, 10]
