"""Members are asked to end while they have streams: they finish them, as long as they are given the time."""

import asyncio
import signal
import time
from functools import partial

import pytest

from tests.faults.crowd import CROWD, Say, all_closed, assert_cut, assert_refused, by_worker, crowd, schedules
from tests.faults.standing import LONG, member_id
from tests.harness.chat import ask_over, assert_complete, body_of
from tests.harness.fleet import Fleet, fetch
from tests.harness.http import Address, Connection
from tests.harness.process import Process
from tests.harness.waiting import SOON, eventually
from tests.schedule import Schedule

pytestmark = pytest.mark.slow

KILLED_AGAIN = 1
"""Exit code after a second signal."""


async def ended(process: Process, within: float = 2 * SOON) -> int:
    """The exit code of a process that was asked to end."""
    return await asyncio.to_thread(process.popen.wait, within)


async def test_a_worker_finishes_its_streams_and_leaves(fleet: Fleet, figures: Say) -> None:
    worker, name = fleet.workers[0], member_id(fleet.workers[0])
    async with crowd(fleet.address, schedules("drained", tokens=60, delay=0.2)) as clients:
        await clients.all_have_text()
        streams = by_worker(fleet, clients)
        worker.signal(signal.SIGTERM)
        asked = time.monotonic()
        await eventually(
            lambda: {one["id"]: one["state"] for one in fleet.status()["workers"]}[name] == "DRAINING", SOON
        )
        async with crowd(fleet.address, schedules("elsewhere", tokens=5)) as new:
            pass
        assert worker.is_alive, "the streams outlast the new requests"
        assert await ended(worker) == 0
        took = time.monotonic() - asked
    clients.assert_complete()
    new.assert_complete()
    assert by_worker(fleet, new).keys() == {"worker-1"}
    last = max(client.ended_at or 0 for client in streams["worker-0"]) - asked
    figures(f"{len(streams['worker-0'])} streams ended {last:.2f} s after SIGTERM, the process {took:.2f} s")


async def test_a_gateway_finishes_its_streams_and_leaves(fleet: Fleet, figures: Say) -> None:
    async with crowd(fleet.address, schedules("drained", tokens=60, delay=0.2)) as clients:
        await clients.all_have_text()
        fleet.gateway.signal(signal.SIGTERM)
        asked = time.monotonic()
        await eventually(lambda: fleet.readiness()[0] == 503, SOON, "/readyz is 503")
        assert "draining" in fleet.readiness()[1]["reason"]
        async with crowd(fleet.address, schedules("refused")) as new:
            pass
        assert await ended(fleet.gateway) == 0
        took = time.monotonic() - asked
    clients.assert_complete()
    for client in new:
        assert_refused(client, 503, "draining")
    figures(
        f"streams ended {max(c.ended_at or 0 for c in clients) - asked:.2f} s after SIGTERM, the process {took:.2f} s"
    )


async def test_all_that_are_stopped_at_once_finish_their_streams(figures: Say) -> None:
    """As by `docker compose up -d`: it stops workers when gateways have ended, the host with the first of them."""
    with Fleet(settings={"HOST_DRAIN_TIMEOUT": "60"}) as fleet:
        async with crowd(fleet.address, schedules("parting", 20, tokens=80, delay=0.1)) as clients:
            await clients.all_have_text()
            asked = time.monotonic()
            fleet.host.signal(signal.SIGTERM)
            fleet.gateway.signal(signal.SIGTERM)
            assert await ended(fleet.gateway) == 0
            for worker in fleet.workers:
                worker.signal(signal.SIGTERM)
            assert [await ended(process) for process in (*fleet.workers, fleet.host)] == [0, 0, 0]
            figures(f"the host ended {time.monotonic() - asked:.2f} s after SIGTERM")
        clients.assert_complete()


async def test_a_host_that_is_stopped_alone_does_not_wait_for_streams(figures: Say) -> None:
    with Fleet(settings={"HOST_DRAIN_TIMEOUT": "60"}) as fleet:
        async with crowd(fleet.address, schedules("staying", 20, tokens=150, delay=0.1)) as clients:
            await clients.all_have_text()
            fleet.host.signal(signal.SIGTERM)
            assert await ended(fleet.host) == 0
            assert clients.unfinished == len(clients)
            fleet.host.start()
        clients.assert_complete()
        figures(f"longest pause {clients.longest_pause:.2f} s")


async def test_a_gateway_serves_on_until_its_balancer_must_have_noticed(fleet: Fleet, figures: Say) -> None:
    gateway = fleet.new_gateway(GATEWAY_DRAIN_DELAY="8")
    address = fleet.addresses[-1]
    gateway.start()
    await eventually(lambda: gateway_answers(address, "/readyz") == 200, SOON, "the gateway is ready")
    async with Connection(address) as used, Connection(address) as idle, Connection(address) as busy:
        for connection in (used, idle):
            reply = await ask_over(connection, body_of(first := Schedule(tokens=1)))
            assert_complete(reply, first)
            assert "connection" not in reply.headers
        long = Schedule(tokens=40, delay=0.4)
        answering = asyncio.create_task(ask_over(busy, body_of(long)))
        await eventually(lambda: fleet.backend.active() == 1, SOON, "a stream runs")
        gateway.signal(signal.SIGTERM)
        asked = time.monotonic()
        await eventually(lambda: gateway_answers(address, "/readyz") == 503, SOON, "/readyz is 503")
        async with Connection(address) as new:
            for connection in (used, new):
                reply = await ask_over(connection, body_of(late := Schedule(tokens=2)))
                assert_complete(reply, late)
                assert reply.headers["connection"] == "close"
                assert await is_closed(connection)
        assert await is_closed(idle)
        figures(f"an idle connection was closed {time.monotonic() - asked:.2f} s after SIGTERM")
        async with Connection(address) as refused:
            assert (await ask_over(refused, body_of("too late"))).status == 503
        assert_complete(await answering, long)
        assert await is_closed(busy), "else the next request on it would be refused"
    assert await ended(gateway) == 0


def gateway_answers(address: Address, path: str) -> int:
    return fetch("http://{}:{}{}".format(*address, path))[0]


async def is_closed(connection: Connection) -> bool:
    """Whether the gateway closes the connection, soon and with nothing more to say."""
    async with asyncio.timeout(SOON):
        return await connection.at_end()


async def test_a_second_signal_ends_members_at_once(fleet: Fleet, figures: Say) -> None:
    async with crowd(fleet.address, schedules("twice", tokens=10_000, delay=0.1)) as clients:
        await clients.all_have_text()
        for member in (fleet.workers[0], fleet.gateway):
            written = member.log_size()
            member.signal(signal.SIGTERM)
            await eventually(partial(draining, member, written), SOON, f"{member} drains")
            member.signal(signal.SIGTERM)
            again = time.monotonic()
            assert await ended(member) == KILLED_AGAIN  # a drain would take 60 s
            figures(f"{member.name} ended {time.monotonic() - again:.2f} s after the second SIGTERM")
        await clients.leave()


def draining(member: Process, since: int) -> bool:
    return "event=draining" in member.log(since)


async def test_a_worker_that_may_not_finish_ends_each_stream_once(hasty_fleet: Fleet, figures: Say) -> None:
    fleet = hasty_fleet
    async with crowd(fleet.address, schedules("overdue", tokens=75, delay=0.2)) as clients:
        await clients.all_have_text()
        streams = by_worker(fleet, clients)
        fleet.workers[0].signal(signal.SIGTERM)
        asked = time.monotonic()
        assert await ended(fleet.workers[0]) == 0
        took = time.monotonic() - asked
    for client in streams["worker-0"]:
        assert_cut(client, "worker_stopped")
    for client in streams["worker-1"]:
        client.assert_complete()
    last = max(client.ended_at or 0 for client in streams["worker-0"]) - asked
    figures(
        f"{len(streams['worker-0'])} streams cut {last:.2f} s after SIGTERM, the process ended {took:.2f} s after it"
    )
    assert took < 10, "its streams take 15 s"


async def test_a_gateway_that_may_not_finish_ends_each_stream_once(hasty_fleet: Fleet, figures: Say) -> None:
    fleet = hasty_fleet
    async with crowd(fleet.address, schedules("overdue", tokens=10_000, delay=0.1)) as clients:
        await clients.all_have_text()
        fleet.gateway.signal(signal.SIGTERM)
        asked = time.monotonic()
        assert await ended(fleet.gateway) == 0
        took = time.monotonic() - asked
        closed = await all_closed(fleet, "overdue", asked)
    for client in clients:
        assert_cut(client, "draining")
    figures(
        f"{CROWD} streams cut {max(c.ended_at or 0 for c in clients) - asked:.2f} s after SIGTERM, gone at {took:.2f} s"
    )
    figures(f"the model's connections closed {closed[0]:.2f} to {closed[-1]:.2f} s after SIGTERM")
    assert took < 10
    assert closed[-1] < 10, "a gateway that only falls silent has 15 s"


@pytest.mark.skipif(not LONG, reason="beyond the fault matrix; `CHATFLEET_LONG=1 make test` runs them")
async def test_a_worker_that_drains_while_the_host_is_away_leaves_in_time(hasty_fleet: Fleet, figures: Say) -> None:
    fleet = hasty_fleet
    async with crowd(fleet.address, schedules("alone", tokens=10_000, delay=0.1)) as clients:
        await clients.all_have_text()
        written = fleet.workers[0].log_size()
        fleet.host.kill()
        await eventually(lambda: '"lost the host"' in fleet.workers[0].log(written), SOON)
        fleet.workers[0].signal(signal.SIGTERM)
        asked = time.monotonic()
        assert await ended(fleet.workers[0]) == 0
        took = time.monotonic() - asked
        fleet.host.start()
        await clients.leave()
    figures(f"the process ended {took:.2f} s after SIGTERM")
    assert took < 12, "a worker that may finish has 60 s"
