"""Runs a property for a time, not for a number of examples, from a seed that is shown and can be given again."""

import asyncio
import itertools
import os
import secrets
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.conftest import LONG
from tests.faults.crowd import Say

SECONDS = 40.0 if LONG else 2.0
"""For each fuzzer: two minutes for the three together in CI."""
GIVEN_SEED = "CHATFLEET_SEED"
"""Variable that names the first seed, to see a failure again."""

EXAMPLES = 50
"""Of each seed."""

T = TypeVar("T")
Examine = Callable[[T], Coroutine[Any, Any, None]]


def fuzz(examine: Examine[T], cases: st.SearchStrategy[T], say: Say, share: float = 1.0) -> None:
    """Examine one case after the other until this share of the time is over. All on one event loop."""
    first = int(os.environ.get(GIVEN_SEED) or secrets.randbits(32))
    until = time.monotonic() + SECONDS * share
    say(f"{GIVEN_SEED}={first}")

    @settings(
        max_examples=EXAMPLES,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(cases)
    def examined(case: T) -> None:
        if time.monotonic() < until or failed:
            try:
                runner.run(examine(case))
            except Exception:
                failed.append(True)  # from here on the case is made smaller, whatever the time
                raise

    failed: list[bool] = []
    with asyncio.Runner() as runner:
        for number in itertools.count(first):
            seed(number)(examined)()
            if time.monotonic() >= until:
                break


def sliced(data: bytes, sizes: list[int]) -> list[bytes]:
    """The bytes in slices of these sizes, again and again."""
    slices: list[bytes] = []
    at = 0
    for size in itertools.cycle(sizes or [len(data) or 1]):
        if at >= len(data):
            return slices
        slices.append(data[at : at + size])
        at += size
    raise AssertionError


SIZES = st.lists(st.one_of(st.integers(1, 8), st.integers(1, 4096)), max_size=8)
"""Of slices: some so small that they cut everything."""
