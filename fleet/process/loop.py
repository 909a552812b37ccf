"""Runs a process's life on uvloop, which wakes up for much less than asyncio's own loop does."""

import asyncio
import contextlib
import ctypes
import gc
from collections.abc import Coroutine
from typing import Any

import uvloop

LARGE = 256 * 1024
"""Bytes from which on a block of memory goes back to the system when it is freed."""

_M_MMAP_THRESHOLD = -3
"""From glibc's malloc.h."""


def run(life: Coroutine[Any, Any, None]) -> None:
    """As :func:`asyncio.run`."""
    # What the imports made stays; going through it all, which a full collection would, takes 100 ms.
    gc.collect()
    gc.freeze()
    _give_large_blocks_back()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(life)


def _give_large_blocks_back() -> None:
    """Fix the threshold that glibc otherwise raises to the largest block freed so far, which then stay in the heap."""
    with contextlib.suppress(AttributeError, OSError):  # another C library
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, LARGE)
