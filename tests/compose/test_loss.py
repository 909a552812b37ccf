"""Containers are killed and networks cut: what is lost is what ran there, and all comes back by itself."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable

import pytest

from tests.compose.engine import docker, inspect
from tests.compose.stack import PATIENCE, Stack
from tests.compose.test_scaling import are_found, in_flight
from tests.faults.crowd import Client, Say, assert_cut, by_worker, crowd, schedules
from tests.harness.waiting import eventually

pytestmark = pytest.mark.timeout(300)
Lost = Callable[[Stack], contextlib.AbstractAsyncContextManager[None]]
STREAMS = 60
AWAY = 4.0
"""Seconds that a network is cut."""
ASK, APART = 40, 0.2
"""Clients that ask in a row while no gateway listens, and seconds between two: before it is noticed, and after."""


@contextlib.asynccontextmanager
async def killed(stack: Stack) -> AsyncIterator[None]:
    """The engine starts them again, at the same addresses, where nobody listens for a second."""
    pids = {gateway: inspect(gateway)["State"]["Pid"] for gateway in stack.containers("gateway")}
    for gateway in pids:
        await asyncio.to_thread(stack.crash, gateway)
    await eventually(
        lambda: all(inspect(gateway)["State"]["Pid"] != pid for gateway, pid in pids.items()), PATIENCE, "all are dead"
    )
    yield


@contextlib.asynccontextmanager
async def cut_off(stack: Stack) -> AsyncIterator[None]:
    """Nobody answers at their addresses, not even by a refusal."""
    network, gateways = f"{stack.project}_front", stack.containers("gateway")
    for gateway in gateways:
        await asyncio.to_thread(docker, "network", "disconnect", network, gateway)
    try:
        yield
    finally:
        for gateway in gateways:
            await asyncio.to_thread(docker, "network", "connect", "--alias", "gateway", network, gateway)


async def test_a_killed_worker_ends_its_own_streams_and_comes_back(stack: Stack, figures: Say) -> None:
    victim = stack.containers("worker")[0]
    restarts = inspect(victim)["RestartCount"]
    async with crowd(stack.address, schedules("worker", STREAMS, tokens=120, delay=0.1)) as clients:
        await clients.all_have_text()
        served = by_worker(stack, clients)
        await asyncio.to_thread(stack.crash, victim)
    lost = served.pop(victim[:12])
    (kept,) = served.values()
    figures(f"{len(lost)} streams ended in worker_lost, {len(kept)} went on")
    for client in lost:
        assert_cut(client, "worker_lost")
    for client in kept:
        client.assert_complete()
    await eventually(lambda: inspect(victim)["RestartCount"] == restarts + 1, PATIENCE, "it is started again")
    await eventually(lambda: stack.has_workers(2), PATIENCE, "it is ready again")


async def test_a_killed_gateway_breaks_its_own_streams_only(stack: Stack, figures: Say) -> None:
    await asyncio.to_thread(stack.scale, gateway=2)
    victim, other = stack.containers("gateway")
    await are_found(stack, 2)
    async with crowd(stack.address, schedules("gateway", STREAMS, tokens=120, delay=0.1)) as clients:
        await clients.all_have_text()
        held = {container: in_flight(stack, container) for container in (victim, other)}
        await asyncio.to_thread(stack.crash, victim)
    broken = [client for client in clients if client.broken is not None]
    figures(f"{len(broken)} of {STREAMS} streams broke, those of the killed gateway: {held[victim]}")
    assert sum(held.values()) == STREAMS
    assert min(held.values()) > STREAMS // 4
    assert len(broken) == held[victim]
    for client in clients:
        if client not in broken:
            client.assert_complete()
    await eventually(lambda: stack.gateways_found() == 2, PATIENCE, "the killed gateway is back")
    await eventually(stack.is_idle, PATIENCE, "the workers have given its chats up")


@pytest.mark.parametrize("gateways", [1, 3])
@pytest.mark.parametrize("lost", [killed, cut_off])
async def test_who_comes_while_no_gateway_is_there_waits(stack: Stack, figures: Say, lost: Lost, gateways: int) -> None:
    """Whether the ingress has noticed or not."""
    if gateways > 1:
        await asyncio.to_thread(stack.scale, gateway=gateways)
        await are_found(stack, gateways)
    clients = [Client(stack.address, schedule) for schedule in schedules("later", ASK, tokens=5, delay=0.1)]
    asked_at = []
    async with asyncio.TaskGroup() as group, lost(stack):
        for client in clients:
            asked_at.append(time.monotonic())
            client.task = group.create_task(client.run())
            await asyncio.sleep(APART)
    for client in clients:
        client.assert_complete()
    waits = [client.heard_at[0] - asked for client, asked in zip(clients, asked_at, strict=True)]
    figures(f"the longest waited {max(waits):.1f} s")


async def test_a_worker_whose_network_is_cut_for_a_moment_goes_on(stack: Stack, figures: Say) -> None:
    victim = stack.containers("worker")[0]
    network = f"{stack.project}_workers"
    async with crowd(stack.address, schedules("network", STREAMS, tokens=100, delay=0.1)) as clients:
        await clients.all_have_text()
        cut = by_worker(stack, clients)[victim[:12]]
        await asyncio.to_thread(docker, "network", "disconnect", network, victim)
        await asyncio.sleep(AWAY)  # not for a state: for so long it is away
        await asyncio.to_thread(docker, "network", "connect", network, victim)
    clients.assert_complete()
    figures(f"{len(cut)} streams went on after a pause of {max(client.longest_pause for client in cut):.1f} s at most")
    await eventually(lambda: stack.has_workers(2), PATIENCE, "it is ready again")
