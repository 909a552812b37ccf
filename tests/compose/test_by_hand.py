"""What an operator does to single containers, and to how many there are, under load that must not notice."""

import asyncio
import time
from functools import partial

import pytest

from tests.compose.engine import docker
from tests.compose.stack import IMAGE, PATIENCE, Stack
from tests.compose.test_scaling import CLIENTS, go_on, in_flight, in_thread, load
from tests.faults.crowd import Say, constant_load
from tests.harness.waiting import eventually

pytestmark = pytest.mark.timeout(400)


def by_scale(stack: Stack, workers: int) -> None:
    stack.compose("scale", f"worker={workers}")


def by_up(stack: Stack, workers: int) -> None:
    stack.compose("up", "-d", "--scale", f"worker={workers}")


async def test_scaling_by_either_command_replaces_no_container(stack: Stack, figures: Say) -> None:
    steps = [(by_scale, 4), (by_up, 1), (by_up, 4), (by_scale, 1), (by_up, 2)]
    async with constant_load(stack.address, load(), CLIENTS) as tally:
        for command, workers in steps:
            before = set(stack.all_ids())
            took = await in_thread(partial(command, stack, workers))
            await eventually(partial(stack.has_workers, workers), PATIENCE, f"{workers} workers")
            after = set(stack.all_ids())
            figures(f"{workers} workers {command.__name__.replace('_', ' ')} in {took:.1f} s")
            assert before <= after or after <= before, "a container was replaced"
            await go_on(tally)
    figures(f"{tally.completed} requests, {len(tally.failures)} failed or inexact")
    assert not tally.failures, tally.failures[:3]


async def test_one_worker_and_one_gateway_are_taken_out_and_back_in(stack: Stack, figures: Say) -> None:
    await in_thread(lambda: stack.scale(gateway=2))
    gateways = stack.containers("gateway")
    async with constant_load(stack.address, load(), CLIENTS) as tally:
        await eventually(lambda: in_flight(stack, gateways[1]) > 0, PATIENCE, "the ingress has found the new gateway")
        worker = stack.containers("worker")[0]
        for container in (worker, gateways[0]):
            took = await in_thread(partial(docker, "stop", container))
            await go_on(tally, 2 * CLIENTS)
            figures(f"taken out in {took:.1f} s")
            docker("start", container)
        await eventually(lambda: stack.has_workers(2), PATIENCE, "the worker is back")
        await eventually(lambda: in_flight(stack, gateways[0]) > 0, PATIENCE, "the gateway is back")
        await in_thread(lambda: stack.scale(gateway=1))
    assert not tally.failures, tally.failures[:3]


async def test_clients_wait_while_the_only_gateway_is_replaced(stack: Stack, figures: Say) -> None:
    """The one that drains refuses new chats: the ingress sends it none, and keeps them for its successor."""
    async with constant_load(stack.address, load(), CLIENTS) as tally:
        await go_on(tally)
        took = await in_thread(lambda: stack.compose("restart", "gateway"))
        await go_on(tally, 2 * CLIENTS)
    figures(f"restarted in {took:.1f} s; {tally.completed} requests, {len(tally.failures)} failed or inexact")
    assert not tally.failures, tally.failures[:3]
    await asyncio.to_thread(stack.up)


async def test_clients_wait_for_a_gateway_that_does_not_listen_yet(stack: Stack, figures: Say) -> None:
    """Its name resolves as soon as its container starts, seconds before it listens."""
    network = f"{stack.project}_front"
    async with constant_load(stack.address, load(), CLIENTS) as tally:
        await go_on(tally)
        began = time.time()

        def ingress_says(words: str) -> bool:
            return words in stack.logs("ingress", since=began)

        await in_thread(partial(stack.compose, "stop", "gateway"))
        await eventually(partial(ingress_says, "enters maintenance"), PATIENCE, "the gateway has left")
        deaf = await asyncio.to_thread(
            docker, "run", "-d", "--rm", "--network", network, "--network-alias", "gateway", IMAGE, "sleep", "600"
        )
        try:
            await eventually(partial(ingress_says, "resolves again"), PATIENCE, "its name resolves")
            took = await in_thread(partial(stack.compose, "start", "gateway"))
            await go_on(tally, 2 * CLIENTS)
        finally:
            docker("rm", "-f", deaf.strip())
    figures(f"started in {took:.1f} s; {tally.completed} requests, {len(tally.failures)} failed or inexact")
    assert not tally.failures, tally.failures[:3]
