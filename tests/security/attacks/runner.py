"""Runs attacks, each in a process of its own, so that they take no time from the client that measures."""

import asyncio
import contextlib
import multiprocessing
import os
import resource
import signal
import time

import grpc

from tests.security.attacks import Target
from tests.security.attacks.table import ATTACKS

REFUSALS = (ConnectionError, TimeoutError, asyncio.IncompleteReadError, grpc.RpcError)
"""How a target ends what it does not want."""
PAUSE = 0.05
"""Seconds between two strikes: a target that refuses at once is not to be measured by how fast it can refuse."""
DESCRIPTORS = 8192
LINGERS = 1.0
"""Seconds that an attacker gets to close what it holds."""

_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload([__name__])


async def _strike(name: str, target: Target, seconds: float) -> None:
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        with contextlib.suppress(*REFUSALS):
            async with asyncio.timeout(left):
                await ATTACKS[name](target)
        await asyncio.sleep(PAUSE)


def _attack(name: str, target: Target, seconds: float) -> None:
    # Attackers have machines of their own; here they must not take the CPU of those whom they attack.
    os.nice(10)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(DESCRIPTORS, most) if most > 0 else DESCRIPTORS, most))
    asyncio.run(_strike(name, target, seconds))


async def attack(name: str, target: Target, seconds: float) -> None:
    """Strike again and again for so long, and go without a word, as a killed process does.

    Being refused is no failure; an exception of the attack's own is one.
    """
    process = _processes.Process(target=_attack, args=(name, target, seconds), daemon=True)
    process.start()
    try:
        await asyncio.to_thread(process.join, seconds + LINGERS)
    finally:
        process.kill()
        process.join()
    assert process.exitcode in (0, -signal.SIGKILL), f"{name} failed itself"
