"""Which gateways are gone."""

import asyncio
import math
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from fleet.lane import Outbox
from protos import chat_pb2 as pb
from tests.harness.waiting import until
from worker.serving.gateway_watch import GatewayWatch

CLOSED = pb.MemberLeft(member_id="g", kind="gateway", cause=pb.LEAVE_CAUSE_CLOSED)


class Runs:
    """A registry that notes what it is told."""

    def __init__(self) -> None:
        self.cancelled: list[str] = []
        self.kept: list[set[tuple[str, int]]] = []
        self.knew: list[float] = []
        self.spares = False

    def cancel_gateway(self, gateway_id: str) -> int:
        self.cancelled.append(gateway_id)
        return 1

    def keep_only(self, gateway_id: str, wanted: set[tuple[str, int]], knew: float) -> bool:
        self.kept.append(wanted)
        self.knew.append(knew)
        return self.spares


@pytest.fixture
def runs() -> Runs:
    return Runs()


@pytest.fixture
def batches() -> list[pb.ChunkBatch]:
    return []


@pytest.fixture
async def outbox(batches: list[pb.ChunkBatch]) -> Outbox:
    made = Outbox("w", lambda _, batch: batches.append(batch), 0.001)
    made.link_up()
    made.open("g", "r", 1).accept()
    return made


@pytest.fixture
async def watch(runs: Runs, outbox: Outbox) -> AsyncIterator[GatewayWatch]:
    made = watching(runs, outbox)
    task = asyncio.create_task(made.watch())
    yield made
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def watching(runs: Runs, outbox: Outbox, timeout: float = 60.0, link_timeout: float = 60.0) -> GatewayWatch:
    made: Any = runs
    return GatewayWatch(made, outbox, timeout, link_timeout, return_within=0.05, poll_interval=0.005)


async def watched(watch: GatewayWatch, runs: Runs) -> None:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(watch.watch())
        await until(lambda: runs.cancelled)
        task.cancel()


def ack(outbox: Outbox, **fields: object) -> pb.ChunkAck:
    return pb.ChunkAck(gateway_id="g", counts_all=True, **fields)  # type: ignore[arg-type]


async def test_a_gateway_that_left_and_does_not_return_is_gone(watch: GatewayWatch, runs: Runs, outbox: Outbox) -> None:
    watch.left(CLOSED)
    await until(lambda: runs.cancelled == ["g"])
    assert not outbox.gateways()


async def test_a_gateway_that_is_heard_again_is_not_gone(watch: GatewayWatch, runs: Runs, outbox: Outbox) -> None:
    watch.left(CLOSED)
    watch.acknowledged(ack(outbox))
    await asyncio.sleep(0.1)  # for what must not happen
    assert not runs.cancelled


@pytest.mark.parametrize(
    "member",
    [
        pb.MemberLeft(member_id="g", kind="worker", cause=pb.LEAVE_CAUSE_CLOSED),
        pb.MemberLeft(member_id="h", kind="gateway", cause=pb.LEAVE_CAUSE_CLOSED),
        pb.MemberLeft(member_id="g", kind="gateway", cause=pb.LEAVE_CAUSE_SILENT),
    ],
    ids=["a worker", "without a lane", "silent at the host"],
)
async def test_other_members_that_leave_end_nothing(watch: GatewayWatch, runs: Runs, member: pb.MemberLeft) -> None:
    watch.left(member)
    await asyncio.sleep(0.1)  # for what must not happen
    assert not runs.cancelled


async def test_a_silent_gateway_is_gone(runs: Runs, outbox: Outbox) -> None:
    outbox.ask("g")
    await watched(watching(runs, outbox, timeout=0.02), runs)
    assert runs.cancelled[0] == "g"


async def test_all_gateways_are_gone_when_our_own_link_is_away_for_long(runs: Runs, outbox: Outbox) -> None:
    outbox.open("h", "r", 1).accept()
    watch = watching(runs, outbox, link_timeout=0.02)
    outbox.link_down()
    await watched(watch, runs)
    await until(lambda: {*runs.cancelled} == {"g", "h"})


async def test_a_gateway_may_take_its_time_while_our_link_is_away(
    watch: GatewayWatch, runs: Runs, outbox: Outbox
) -> None:
    outbox.link_down()
    watch.left(CLOSED)
    await asyncio.sleep(0.1)  # for what must not happen
    assert not runs.cancelled
    outbox.link_up()
    await until(lambda: runs.cancelled == ["g"])


async def test_a_complete_ack_names_the_runs_that_are_wanted(watch: GatewayWatch, runs: Runs, outbox: Outbox) -> None:
    credits_ = [pb.Credit(request_id="r", attempt=2)]
    watch.acknowledged(ack(outbox, credits=credits_))
    assert runs.kept == []
    watch.acknowledged(ack(outbox, credits=credits_, complete=True))
    assert runs.kept == [{("r", 2)}]


async def test_a_gateway_of_an_earlier_version_knew_all(watch: GatewayWatch, runs: Runs, outbox: Outbox) -> None:
    watch.acknowledged(ack(outbox, complete=True))
    watch.acknowledged(ack(outbox, complete=True, asked_at=0.0))
    watch.acknowledged(ack(outbox, complete=True, asked_at=12.5))
    assert runs.knew == [math.inf, 0.0, 12.5]


@pytest.mark.parametrize("spares", [True, False])
async def test_a_gateway_that_may_have_answered_before_it_sent_a_request_is_asked_once_more(
    watch: GatewayWatch, runs: Runs, outbox: Outbox, batches: list[pb.ChunkBatch], spares: bool
) -> None:
    runs.spares = spares
    before = time.monotonic()
    watch.acknowledged(ack(outbox, complete=True, asked_at=1.0))
    await asyncio.sleep(0.05)  # for what must not happen
    probes = [batch for batch in batches if not batch.number]
    assert len(probes) == spares
    assert all(before <= probe.asked_at <= time.monotonic() for probe in probes)


async def test_an_ack_in_anothers_name_is_ignored(watch: GatewayWatch, runs: Runs, outbox: Outbox) -> None:
    watch.acknowledged(ack(outbox, complete=True, sent_by=["h"]))
    assert runs.kept == []


async def test_a_link_that_is_lost_before_the_first_poll_has_not_been_away_for_long(runs: Runs) -> None:
    """The worker joined just before its host died: gateways wait for it, so it must not give them up."""
    now = 1000.0
    outbox = Outbox("w", lambda *_: None, 0.001, lambda: now)
    outbox.link_up()
    outbox.open("g", "r", 1).accept()
    outbox.link_down()
    watch = watching(runs, outbox, link_timeout=3.0)
    now += 2.9
    assert not watch._find_gone(0.0)
    now += 0.2
    assert watch._find_gone(0.0) == {"g"}
