"""A fleet is upgraded process by process, and back: each stream is exact whichever members are of the version before.

The version before is :data:`BEFORE`, unpacked from the repository's history.
"""

import asyncio
import io
import itertools
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.faults.crowd import Say, Tally, constant_load
from tests.harness.fleet import Fleet
from tests.harness.process import ENDS, REPOSITORY
from tests.harness.waiting import eventually
from tests.schedule import Schedule

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

BEFORE = "1fb84b5"
"""The commit before the events of a reply got kinds and positions, and the relay a port of its own."""
PACKAGES = ("protos", "fleet", "host", "gateway", "worker")
PATIENCE = 60.0
CLIENTS = 20
COMPLETED = 60
"""Requests in each state of the fleet."""
AGES = ("old", "new")

numbers = itertools.count()


def question() -> Schedule:
    return Schedule(tag=f"upgrade-{next(numbers)}", tokens=20, delay=0.05)


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The code of the version before."""
    archive = subprocess.run(
        ["git", "archive", BEFORE, *PACKAGES], cwd=REPOSITORY, capture_output=True, timeout=ENDS, check=False
    )
    if archive.returncode:
        pytest.skip(f"the repository here does not have the commit {BEFORE}: fetch its whole history")
    folder = tmp_path_factory.mktemp("before")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(folder, filter="data")
    return folder


def other(code: Path, before: Path) -> Path:
    return before if code == REPOSITORY else REPOSITORY


async def go_on(tally: Tally) -> None:
    """Until the load has gone on for a while."""
    enough = tally.completed + COMPLETED
    await eventually(lambda: tally.completed >= enough, PATIENCE, f"{COMPLETED} further requests")


async def is_whole(fleet: Fleet, workers: int = 1) -> None:
    await eventually(lambda: len(fleet.ready_workers()) == workers, PATIENCE, f"{workers} workers are ready")


@pytest.mark.parametrize("worker", AGES)
@pytest.mark.parametrize("gateway", AGES)
@pytest.mark.parametrize("host", AGES)
async def test_streams_are_exact_whichever_members_are_old_and_while_they_change(
    before: Path, host: str, gateway: str, worker: str, figures: Say
) -> None:
    ages = {"old": before, "new": REPOSITORY}
    with Fleet(workers=1, start=False) as fleet:
        fleet.host.code, fleet.gateway.code, fleet.workers[0].code = ages[host], ages[gateway], ages[worker]
        fleet.start()
        await asyncio.to_thread(fleet.wait_until_ready)
        async with constant_load(fleet.address, question, CLIENTS) as tally:
            await go_on(tally)
            assert (" relay=" in fleet.host.log()) == (host == "new"), "it runs the code that was meant"
            assert not any("no relay" in process.log() for process in (*fleet.gateways, *fleet.workers))
            assert await asyncio.to_thread(fleet.host.stop, 30) == 0
            fleet.host.code = other(ages[host], before)
            fleet.host.start()
            await is_whole(fleet)
            await go_on(tally)
            successor = fleet.new_worker()
            successor.code = other(ages[worker], before)
            successor.start()
            await is_whole(fleet, 2)
            await go_on(tally)
            assert await asyncio.to_thread(fleet.workers[0].stop, 30) == 0
            await is_whole(fleet)
            await go_on(tally)
        figures(f"{tally.completed} requests, {len(tally.failures)} failed or inexact")
        assert not tally.failures, tally.failures[:3]
