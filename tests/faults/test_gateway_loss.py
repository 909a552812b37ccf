"""A gateway dies: its clients are cut off, and nobody works for them any longer."""

import asyncio
import time

import pytest

from tests.faults.crowd import CROWD, Say, all_closed, by_worker, crowd, schedules
from tests.faults.standing import LONG, PATIENCE
from tests.harness.fleet import Fleet
from tests.harness.waiting import eventually
from tests.schedule import reply_text

pytestmark = pytest.mark.slow


async def test_a_killed_gateway_stops_its_models_and_a_new_one_serves_at_once(fleet: Fleet, figures: Say) -> None:
    other = fleet.new_gateway()
    other.start()
    await eventually(lambda: "worker found" in other.log(), PATIENCE, "the other gateway knows the workers")
    async with (
        crowd(fleet.address, schedules("cut", tokens=10_000, delay=0.1)) as clients,
        crowd(fleet.addresses[-1], schedules("spared", 20, tokens=20, delay=0.2)) as spared,
    ):
        await clients.all_have_text()
        assert len(by_worker(fleet, clients)) == 2
        fleet.gateway.kill()
        killed = time.monotonic()
        closed = await all_closed(fleet, "cut", killed)
        fleet.gateway.start()
        await eventually(lambda: fleet.readiness()[0] == 200, PATIENCE, "the new gateway is ready")
        began = time.monotonic()
        async with crowd(fleet.address, schedules("next")) as served:
            pass
    served.assert_complete()
    spared.assert_complete()
    for client in clients:
        assert client.broken is not None
        assert client.reply is not None
        assert reply_text(client.schedule).startswith(client.reply.text)
        assert not [line for line in client.reply.lines if line.keys() & {"done", "error", "cancelled"}]
    figures(f"the model's connections closed {closed[0]:.2f} to {closed[-1]:.2f} s after SIGKILL")
    figures(f"{CROWD} new requests answered {max(c.ended_at or 0 for c in served) - began:.2f} s after readiness")
    assert closed[-1] < 10, "a gateway that only falls silent has 15 s"


@pytest.mark.skipif(not LONG, reason="beyond the fault matrix; `CHATFLEET_LONG=1 make test` runs them")
async def test_a_gateway_that_stands_still_for_5_s_pauses_its_streams(fleet: Fleet, figures: Say) -> None:
    async with crowd(fleet.address, schedules("still", tokens=40, delay=0.2)) as clients:
        await clients.all_have_text()
        fleet.gateway.freeze()
        await asyncio.sleep(5)  # not for a state: for so long it stands still
        fleet.gateway.thaw()
    clients.assert_complete()
    figures(f"longest pause of a stream {clients.longest_pause:.2f} s")
