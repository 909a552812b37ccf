"""How long a host that is stopped serves on."""

import asyncio

import pytest
from google.protobuf.message import Message

from fleet.bus import topics
from host import parting, roles
from host.member import Member
from host.parting import Parting
from host.registry import Registry
from protos import chat_pb2 as pb
from tests.harness.waiting import until

NEVER = 3600.0
DRAINING = pb.WorkerStatus(state=pb.WORKER_STATE_DRAINING)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parting, "NOTICE", 0.05)
    monkeypatch.setattr(parting, "POLL_EVERY", 0.005)


def member(rights: roles.Rights = roles.WORKER) -> Member:
    made = Member(roles.ANY, "", Registry().routes, lambda: None)
    made.become(rights, "m-1")
    return made


def hears(ends: Parting, sender: Member, status: Message) -> None:
    topic = topics.GATEWAYS if sender.rights is roles.GATEWAY else topics.WORKERS
    ends.heard(sender, topic.type.encode(), status.SerializeToString())


async def test_it_does_not_wait_for_members_that_stay() -> None:
    ends, worker, gateway = Parting(), member(), member(roles.GATEWAY)
    hears(ends, worker, pb.WorkerStatus(state=pb.WORKER_STATE_READY))
    hears(ends, gateway, pb.GatewayStatus(draining=False))
    await asyncio.wait_for(ends.over([worker, gateway], NEVER), 5)


@pytest.mark.parametrize(
    ("draining", "status"),
    [(member(), DRAINING), (member(roles.GATEWAY), pb.GatewayStatus(draining=True))],
    ids=["worker", "gateway"],
)
async def test_it_waits_until_a_member_that_drains_has_left(draining: Member, status: Message) -> None:
    ends, members = Parting(), [member(), draining]
    hears(ends, draining, status)
    waiting = asyncio.create_task(ends.over(members, NEVER))
    with pytest.raises(TimeoutError):
        await until(waiting.done, 0.3)
    members.remove(draining)
    await asyncio.wait_for(waiting, 5)


async def test_it_gives_a_member_that_is_stopped_with_it_the_time_to_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parting, "NOTICE", NEVER)
    ends, worker = Parting(), member()
    waiting = asyncio.create_task(ends.over([worker], NEVER))
    await asyncio.sleep(0)
    hears(ends, worker, DRAINING)
    monkeypatch.setattr(parting, "NOTICE", 0.0)
    with pytest.raises(TimeoutError):
        await until(waiting.done, 0.1)
    waiting.cancel()


async def test_without_members_and_after_its_time_it_waits_for_nothing() -> None:
    await asyncio.wait_for(Parting().over([], NEVER), 5)
    ends, worker = Parting(), member()
    hears(ends, worker, DRAINING)
    await asyncio.wait_for(ends.over([worker], 0.1), 5)


def test_other_topics_are_not_read_and_garbage_is_refused() -> None:
    ends = Parting()
    ends.heard(member(), b"chunks.g", b"\xff")
    with pytest.raises(ValueError, match="pars"):
        ends.heard(member(), topics.WORKERS.type.encode(), b"\xff")
