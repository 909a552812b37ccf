"""A member's connection to the host is cut, or swallows everything, while the member and the host live on."""

import asyncio
import time
from collections.abc import Callable, Iterator

import pytest

from tests.faults.crowd import CROWD, Say, assert_cut, by_worker, crowd, schedules
from tests.faults.links import Cable, joins
from tests.faults.standing import Standing, member_id, settle
from tests.harness.fleet import Fleet
from tests.harness.http import Address
from tests.harness.process import Process
from tests.harness.waiting import eventually

pytestmark = pytest.mark.slow

BACK_WITHIN = 15.0
IN_TIME = 0.6
"""Seconds for a new connection after which a member is surely not given up yet."""


class Cabled:
    """A fleet with one worker and one gateway more, each on a cable of its own."""

    def __init__(self, fleet: Fleet, worker: Process, gateway: Process, cables: dict[str, Cable]) -> None:
        self.fleet = fleet
        self.members = {"worker": worker, "gateway": gateway}
        self.cables = cables

    @property
    def worker(self) -> Process:
        return self.members["worker"]

    @property
    def address(self) -> Address:
        """Where the gateway on the cable listens."""
        return self.fleet.addresses[self.fleet.gateways.index(self.members["gateway"])]

    def knows_the_worker(self) -> bool:
        return member_id(self.worker) in {worker["id"] for worker in self.fleet.ready_workers()}


@pytest.fixture(scope="module")
def cabled(plain_standing: Standing) -> Iterator[Cabled]:
    ports = plain_standing.fleet.host_port, plain_standing.fleet.relay_port
    cables = {"worker": Cable("127.0.0.2", *ports), "gateway": Cable("127.0.0.3", *ports)}
    with (
        plain_standing.whole() as fleet,
        cables["worker"].laid() as worker_dials,
        cables["gateway"].laid() as gateway_dials,
    ):
        worker = fleet.new_worker(FLEET_HOST=worker_dials)
        gateway = fleet.new_gateway(FLEET_HOST=gateway_dials)
        worker.start()
        gateway.start()
        settle(lambda: len(fleet.ready_workers()) == 3 and joins(gateway) >= 1, "both have joined")
        settle(lambda: all(cable.connections == 2 for cable in cables.values()), "each has its relay on its cable")
        yield Cabled(fleet, worker, gateway, cables)
        worker.end()
        gateway.end()


async def is_back(cabled: Cabled, which: str, joined: int, cut: float, say: Say) -> float:
    """The member has a new connection, and the fleet knows it, in good time: after so many seconds."""
    await eventually(lambda: joins(cabled.members[which]) > joined, BACK_WITHIN, f"the {which} joins again")
    await eventually(cabled.knows_the_worker, BACK_WITHIN, "the worker is known and ready")
    took = time.monotonic() - cut
    say(f"the {which} was back after {took:.2f} s")
    assert took < BACK_WITHIN
    return took


@pytest.mark.parametrize("which", ["worker", "gateway"])
async def test_a_severed_connection_costs_no_stream_anything(cabled: Cabled, which: str, figures: Say) -> None:
    await streams_survive(cabled, [which], Cable.sever, figures)


async def test_half_open_connections_of_a_worker_and_a_gateway_cost_no_stream_anything(
    cabled: Cabled, figures: Say
) -> None:
    await streams_survive(cabled, ["worker", "gateway"], Cable.swallow, figures)


@pytest.mark.parametrize("away", [2.5, 8.0], ids=["back soon", "back late"])
async def test_streams_of_a_gateway_that_its_workers_have_given_up_end_when_it_is_back(
    cabled: Cabled, figures: Say, away: float
) -> None:
    """Nobody asks anything meanwhile, so that nothing else tells the gateway what its workers have ended."""
    async with crowd(cabled.address, schedules(f"given-up-{away}", tokens=400, delay=0.15)) as clients:
        await clients.all_have_text()
        before = joins(cabled.members["gateway"])
        logged = cabled.fleet.log_sizes()

        def is_given_up() -> bool:
            return all("gateway gone" in worker.log(logged[worker.name]) for worker in cabled.fleet.workers)

        with cabled.cables["gateway"].severed():
            await asyncio.sleep(away)
            await eventually(is_given_up, BACK_WITHIN, "every worker has given it up")
        back = time.monotonic()
        await eventually(lambda: joins(cabled.members["gateway"]) > before, BACK_WITHIN, "the gateway joins again")
        await clients.end(BACK_WITHIN)
        figures(f"away for {away:g} s, every stream ended {time.monotonic() - back:.2f} s after it")
    for client in clients:
        assert_cut(client, client.whole.error["code"])


async def streams_survive(
    cabled: Cabled, which: list[str], cut: Callable[[Cable], None], say: Say, tries: int = 3
) -> None:
    """Streams through the gateway on the cable, some of them on the worker on the cable, outlive the cut.

    It is cut again if the machine, busy with other things, took longer for the new connection than members have.
    """
    name = f"{cut.__name__}-{'-'.join(which)}"
    async with crowd(cabled.address, schedules(name, tokens=40, delay=0.15)) as clients:
        await clients.all_have_text()
        assert len(by_worker(cabled.fleet, clients)[cabled.worker.name]) > 0.2 * CROWD
        before = {each: joins(cabled.members[each]) for each in which}
        severed = time.monotonic()
        for each in which:
            cut(cabled.cables[each])
        took = [await is_back(cabled, each, before[each], severed, say) for each in which]
        if is_late := cut is Cable.sever and max(took) > IN_TIME and tries > 1:
            await clients.leave()
    if is_late:
        await streams_survive(cabled, which, cut, say, tries - 1)
        return
    clients.assert_complete()
    say(f"longest pause of a stream {clients.longest_pause:.2f} s")
    async with crowd(cabled.address, schedules(f"{name}-after", 30)) as clients:
        pass
    clients.assert_complete()
