"""Waiting for a state, with a deadline, instead of for a time."""

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

INTERVAL = 0.02


def wait_until(look: Callable[[], T], within: float, what: str = "") -> T:
    """Block until ``look`` returns something true, and return it. Raises ``TimeoutError`` after ``within`` seconds."""
    deadline = time.monotonic() + within
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what or look.__name__}: last seen {found!r} after {within} s")
        time.sleep(INTERVAL)


async def eventually(look: Callable[[], T], within: float = 5.0, what: str = "") -> T:
    """:func:`wait_until`, off the event loop, so that the test's own streams go on being read."""
    return await asyncio.to_thread(wait_until, look, within, what)


async def until(true: Callable[[], object], within: float = 5.0) -> None:
    """Wait for what happens on the test's own loop."""
    async with asyncio.timeout(within):
        while not true():
            await asyncio.sleep(0.001)
