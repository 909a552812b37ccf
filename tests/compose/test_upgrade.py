"""New code is taken in, and taken back, under load that must not notice."""

import asyncio
import itertools
from collections.abc import Callable

import pytest

from tests.compose.engine import docker, inspect
from tests.compose.stack import PATIENCE, Stack
from tests.compose.test_scaling import in_thread, load
from tests.faults.crowd import Say, constant_load
from tests.harness.waiting import eventually
from tests.schedule import Schedule

pytestmark = pytest.mark.timeout(900)
CLIENTS = 20
REPLY = 30.0
"""Seconds that a reply takes."""
CHANGED = "worker/__init__.py"
REPLACED, KEPT = ("host", "gateway", "worker"), ("ingress", "model")


def long_replies(seconds: float = REPLY) -> Callable[[], Schedule]:
    numbers = itertools.count()
    return lambda: Schedule(tag=f"upgrade-{next(numbers)}", tokens=300, delay=seconds / 300)


def containers(stack: Stack) -> dict[str, set[str]]:
    return {service: set(stack.containers(service)) for service in (*REPLACED, *KEPT)}


def make_upgrade(stack: Stack) -> None:
    stack.upgrade()


def compose_up(stack: Stack) -> None:
    """It stops all that has changed before it starts anything: new requests wait until running ones have ended."""
    stack.compose("build", "init")
    stack.up("--no-deps", "init", *REPLACED)


@pytest.mark.parametrize(("bring", "seconds", "replies"), [(make_upgrade, REPLY, 3), (compose_up, REPLY / 3, 2)])
async def test_new_code_and_the_old_again_lose_nothing_under_load(
    bring: Callable[[Stack], None], seconds: float, replies: int, stack: Stack, figures: Say
) -> None:
    file = stack.clone / CHANGED
    before = file.read_text()
    async with constant_load(stack.address, long_replies(seconds), CLIENTS) as tally:
        await eventually(lambda: stack.backend.active() == CLIENTS, PATIENCE, "all ask")
        for text in (before + "# Changed.\n", before):
            old = containers(stack)
            file.write_text(text)
            took = await in_thread(lambda: bring(stack))
            new = containers(stack)
            figures(f"took {took:.1f} s, {tally.completed} requests so far, {len(tally.failures)} failed")
            assert {service: len(ids) for service, ids in new.items()} == {name: len(ids) for name, ids in old.items()}
            assert not any(new[service] & old[service] for service in REPLACED)
            assert all(new[service] == old[service] for service in KEPT)
    figures(f"{tally.completed} requests, {len(tally.failures)} failed or inexact")
    assert tally.completed >= replies * CLIENTS
    assert not tally.failures, tally.failures[:3]


async def test_an_interrupted_upgrade_can_be_run_again(stack: Stack, figures: Say) -> None:
    file = stack.clone / CHANGED
    before = file.read_text()
    try:
        async with constant_load(stack.address, load(), CLIENTS) as tally:
            file.write_text(before + "# Changed.\n")
            old = containers(stack)
            assert await asyncio.to_thread(stack.interrupt_upgrade, "worker: 2 new beside 2") != 0
            assert containers(stack)["worker"] == old["worker"], "the new ones go"
            assert await asyncio.to_thread(stack.interrupt_upgrade, "worker: the old ones drain") != 0
            workers = containers(stack)["worker"]
            assert len(workers) == len(old["worker"])
            assert not workers & old["worker"], "the old ones go"
            figures(f"upgraded in {await in_thread(stack.upgrade):.1f} s")
            new = containers(stack)
            assert new["worker"] == workers
            assert len(new["gateway"] - old["gateway"]) == len(old["gateway"])
    finally:
        file.write_text(before)
        stack.upgrade()
    figures(f"{tally.completed} requests, {len(tally.failures)} failed or inexact")
    assert not tally.failures, tally.failures[:3]


def test_what_was_taken_out_does_not_come_back_in_its_former_version(stack: Stack) -> None:
    file = stack.clone / CHANGED
    before = file.read_text()
    docker("stop", stack.containers("worker")[0])
    try:
        file.write_text(before + "# Changed.\n")
        stack.upgrade()
        (worker,) = stack.containers("worker")
        assert inspect(worker)["Image"] == inspect(stack.container("host"))["Image"]
    finally:
        file.write_text(before)
        stack.upgrade()


@pytest.mark.parametrize("broken", [CHANGED, "host/__init__.py"])
def test_code_that_cannot_serve_replaces_nothing(stack: Stack, broken: str) -> None:
    file, old = stack.clone / broken, containers(stack)
    before = file.read_text()
    try:
        file.write_text(before + 'raise SystemExit("this version is broken")\n')
        done = stack.try_upgrade()
        assert done.returncode != 0
        assert "this version is broken" in done.stderr
        assert containers(stack) == old
    finally:
        file.write_text(before)
        stack.compose("build", "init")
