"""More and fewer containers, new certificates and a host that comes and goes, all under load that must not notice."""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Callable

import pytest

from tests.compose.engine import docker, inspect
from tests.compose.stack import PATIENCE, Stack
from tests.faults.crowd import Say, Tally, constant_load
from tests.harness.fleet import fetch
from tests.harness.waiting import eventually, until
from tests.schedule import Schedule

pytestmark = pytest.mark.timeout(400)
CLIENTS = 30
CHECKS, CHECK = 4, 1.0
"""Looks at the ingress in a row, and seconds between two: as long as it takes to judge a gateway."""
COUNTED = 180
"""Requests from which the shares of workers are taken: six rounds of all clients."""


def load() -> Callable[[], Schedule]:
    """Replies of about a second."""
    numbers = itertools.count()
    return lambda: Schedule(tag=f"load-{next(numbers)}", tokens=50, delay=0.02)


async def go_on(tally: Tally, count: int = CLIENTS) -> None:
    """Until so many more requests have been answered."""
    target = tally.completed + count
    await until(lambda: tally.completed >= target or tally.failures, PATIENCE, f"{count} more answers")
    assert not tally.failures, tally.failures[:3]


async def are_found(stack: Stack, gateways: int) -> None:
    """Until the ingress gives requests to so many, and goes on to."""
    for _ in range(CHECKS):
        await eventually(lambda: stack.gateways_found() == gateways, PATIENCE, "the ingress has found all gateways")
        await asyncio.sleep(CHECK)


async def in_thread(blocking: Callable[[], object]) -> float:
    """Seconds that it took, with the clients served meanwhile."""
    began = time.monotonic()
    await asyncio.to_thread(blocking)
    return time.monotonic() - began


async def test_workers_come_and_go_and_the_host_too(stack: Stack, figures: Say) -> None:
    await in_thread(lambda: stack.scale(worker=1))
    await eventually(lambda: stack.has_workers(1), PATIENCE, "one worker")
    async with constant_load(stack.address, load(), CLIENTS) as tally:
        await go_on(tally)
        took = await in_thread(lambda: stack.scale(worker=4))
        began = time.monotonic()
        await eventually(lambda: stack.has_workers(4), PATIENCE, "four workers")
        figures(f"1 to 4 workers: {took:.1f} s for compose, ready {time.monotonic() - began:.1f} s later")
        await go_on(tally)  # those that the first worker had
        stack.backend.forget()
        await go_on(tally, COUNTED)
        shares = Counter(record["authorization"] for record in stack.backend.requests())
        assert {key.removeprefix("Bearer ") for key in shares} == {name[:12] for name in stack.containers("worker")}
        parts = sorted(count / shares.total() for count in shares.values())
        figures("shares of four workers: " + ", ".join(f"{part:.0%}" for part in parts))
        assert parts[0] >= 0.15
        assert parts[-1] <= 0.35

        took = await in_thread(lambda: stack.compose("restart", "host"))
        await eventually(lambda: stack.has_workers(4) and is_linked(stack), PATIENCE, "all are back")
        figures(f"the host restarted in {took:.1f} s")
        await go_on(tally, 2 * CLIENTS)
        host = stack.container("host")
        began = time.monotonic()
        restarts = inspect(host)["RestartCount"]
        await in_thread(lambda: stack.crash(host))
        await eventually(lambda: inspect(host)["RestartCount"] == restarts + 1, PATIENCE, "the host is started again")
        await eventually(lambda: stack.has_workers(4) and is_linked(stack), PATIENCE, "all are back")
        figures(f"all are back {time.monotonic() - began:.1f} s after the host's SIGKILL")
        await go_on(tally, 2 * CLIENTS)

        took = await in_thread(lambda: stack.scale(worker=2))
        await eventually(lambda: stack.has_workers(2), PATIENCE, "two workers")
        figures(f"4 to 2 workers: {took:.1f} s")
        await go_on(tally)
    figures(f"{tally.completed} requests, {len(tally.failures)} failed or inexact")
    assert not tally.failures, tally.failures[:3]


async def test_gateways_come_and_go(stack: Stack, figures: Say) -> None:
    async with constant_load(stack.address, load(), CLIENTS) as tally:
        await go_on(tally)
        await in_thread(lambda: stack.scale(gateway=2))
        gateways = stack.containers("gateway")
        await eventually(lambda: in_flight(stack, gateways[1]) > 0, PATIENCE, "the ingress has found the new gateway")
        await are_found(stack, 2)
        stack.backend.forget()
        before = [served(stack, gateway) for gateway in gateways]
        await go_on(tally, COUNTED)
        counts = [served(stack, gateway) - count for gateway, count in zip(gateways, before, strict=True)]
        shares = Counter(record["authorization"] for record in stack.backend.requests())
        parts = [count / shares.total() for count in shares.values()]
        figures(f"two gateways serve {counts} requests; two workers get " + ", ".join(f"{part:.0%}" for part in parts))
        assert min(counts) >= 0.35 * sum(counts)
        assert len(parts) == 2
        assert min(parts) >= 0.35

        # Three at once, to which the ingress gives connections as soon as their names resolve.
        took = await in_thread(lambda: stack.scale(gateway=5))
        figures(f"2 to 5 gateways: {took:.1f} s")
        await go_on(tally, 5 * CLIENTS)
        took = await in_thread(lambda: stack.scale(gateway=1))
        figures(f"5 to 1 gateways: {took:.1f} s")
        await go_on(tally, 2 * CLIENTS)
    figures(f"{tally.completed} requests, {len(tally.failures)} failed or inexact")
    assert not tally.failures, tally.failures[:3]


async def test_certificates_are_renewed_under_load(stack: Stack, figures: Say) -> None:
    host, worker = stack.container("host"), stack.containers("worker")[0]
    before = [stack.exec(container, "cat", "/identity/cert.pem") for container in (host, worker)]
    async with constant_load(stack.address, load(), CLIENTS) as tally:
        await go_on(tally)
        renew = ("run", "--rm", "-T", "init", "python", "-m", "fleet.security", "/identities", "--renew")
        await in_thread(lambda: stack.compose(*renew))
        after = [stack.exec(container, "cat", "/identity/cert.pem") for container in (host, worker)]
        assert not set(before) & set(after)
        await go_on(tally)
        await in_thread(lambda: docker("restart", "--time", "60", worker))
        await eventually(lambda: stack.has_workers(2), PATIENCE, "the worker is back with its new certificate")
        await in_thread(lambda: stack.crash(host))
        await eventually(lambda: not is_linked(stack), PATIENCE, "the host is gone")
        await eventually(lambda: stack.has_workers(2) and is_linked(stack), PATIENCE, "all are back, with new ones")
        await go_on(tally, 2 * CLIENTS)
    figures(f"{tally.completed} requests, {len(tally.failures)} failed or inexact")
    assert not tally.failures, tally.failures[:3]


def is_linked(stack: Stack) -> bool:
    """Whether the gateway has its link to the host."""
    status = stack.status()
    return bool(status and status["gateway"]["linked"])


def in_flight(stack: Stack, gateway: str) -> int:
    """Requests that one of several gateways holds."""
    return described(stack, gateway, "in_flight")


def served(stack: Stack, gateway: str) -> int:
    """Requests that one of several gateways has had."""
    return described(stack, gateway, "requests_total")


def described(stack: Stack, gateway: str, field: str) -> int:
    status = fetch(f"http://{stack.ip(gateway, 'front')}:8501/fleet")[1]
    return int(status["gateway"][field]) if status else 0
