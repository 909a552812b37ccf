"""How the CPU time of work grows with its size. Unlike the time itself, that is the same on every machine."""

import gc
import math
import time
from collections.abc import Callable

TIMES = 8
"""The larger size: linear work takes as many times as long, quadratic work 64 times."""

BOUND = 3 * TIMES

TRIES = 5
"""Other processes' use of the caches only adds to the time, so the shortest of several counts."""


def assert_linear(prepare: Callable[[int], Callable[[], object]], size: int) -> None:
    """Work on ``TIMES * size`` costs little more than ``TIMES`` as much as on ``size``.

    ``prepare`` makes what the work is done on, which is not measured, and returns the work, which runs several times.
    ``size`` is large enough that what is quadratic in it would outweigh the rest.
    """
    small, large = prepare(size), prepare(TIMES * size)
    short = long = math.inf
    for _ in range(TRIES):
        short, long = min(short, _cost(small)), min(long, _cost(large))
        if long <= BOUND * short:
            return
    raise AssertionError(f"{TIMES} times the size, {size:,}, costs {long / short:.1f} times as much")


def _cost(work: Callable[[], object]) -> float:
    """Without garbage collections, which examine what other tests have left."""
    gc.collect(0)
    gc.disable()
    try:
        began = time.thread_time()
        work()
        return time.thread_time() - began
    finally:
        gc.enable()
