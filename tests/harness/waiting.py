"""Waiting for a state, with a deadline, instead of for a time."""

import asyncio
import itertools
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

T = TypeVar("T")

SOON = 20.0
"""Seconds in which a state must come of which nothing says how long it may take."""

INTERVALS = (0.005, 0.01, 0.02, 0.05, 0.1)
"""Seconds between two looks: short at first, so that quick states are seen at once, then longer."""


def wait_until(state: Callable[[], T], within: float, what: str = "") -> T:
    """Block until ``state`` returns something true, and return it. Raises ``TimeoutError`` after ``within`` seconds."""
    deadline = time.monotonic() + within
    for interval in _intervals():
        found = state()
        if found:
            break
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what or state.__name__}: last seen {found!r} after {within} s")
        time.sleep(interval)
    return found


async def eventually(state: Callable[[], T], within: float = SOON, what: str = "") -> T:
    """:func:`wait_until` in a thread, for a ``state`` that blocks, so that the test's own streams go on being read."""
    return await asyncio.to_thread(wait_until, state, within, what)


async def until(state: Callable[[], object], within: float = SOON, what: str = "") -> None:
    """Wait for a state of the test's own loop. Raises ``TimeoutError`` after ``within`` seconds."""
    try:
        async with asyncio.timeout(within):
            while not state():
                await asyncio.sleep(0.001)
    except TimeoutError:
        raise TimeoutError(f"{what or state.__name__}: not after {within} s") from None


def _intervals() -> Iterator[float]:
    return itertools.chain(INTERVALS, itertools.repeat(INTERVALS[-1]))
