"""New code is taken in, and taken back, under load that must not notice."""

import itertools
from collections.abc import Callable

import pytest

from tests.compose.engine import docker
from tests.compose.stack import IMAGE, PATIENCE, Stack
from tests.compose.test_scaling import in_thread
from tests.faults.crowd import Say, constant_load
from tests.harness.waiting import until
from tests.schedule import Schedule

pytestmark = pytest.mark.timeout(600)
CLIENTS = 20
REPLY = 30.0
"""Seconds that a reply takes."""
CHANGED = "worker/__init__.py"


def long_replies(name: str) -> Callable[[], Schedule]:
    numbers = itertools.count()
    return lambda: Schedule(tag=f"{name}-{next(numbers)}", tokens=300, delay=REPLY / 300)


@pytest.fixture
def fixed_backend(stack: Stack) -> Stack:
    """The model runs an image of its own, so that it stays while the fleet's image changes."""
    docker("tag", IMAGE, f"{IMAGE}-backend")
    stack.set(CHATFLEET_BACKEND=f"{IMAGE}-backend")
    stack.up()
    return stack


async def test_two_upgrades_under_load_lose_nothing(fixed_backend: Stack, figures: Say) -> None:
    stack = fixed_backend
    file = stack.clone / CHANGED
    before = file.read_text()
    services = ("host", "gateway", "worker")
    async with constant_load(stack.address, long_replies("upgrade"), CLIENTS) as tally:
        await until(lambda: stack.backend.active() == CLIENTS, PATIENCE, "all ask")
        for text in (before + "# Changed.\n", before):
            old = {service: set(stack.containers(service)) for service in services}
            file.write_text(text)
            took = await in_thread(stack.upgrade)
            for service in services:
                new = set(stack.containers(service))
                assert len(new) == len(old[service])
                assert not new & old[service], f"{service} was not replaced"
            figures(f"upgraded in {took:.1f} s, {tally.completed} requests so far, {len(tally.failures)} failed")
    figures(f"{tally.completed} requests, {len(tally.failures)} failed or inexact")
    assert tally.completed >= 3 * CLIENTS
    assert not tally.failures, tally.failures[:3]
