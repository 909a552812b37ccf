"""Runs a process on uvloop, with the limits and the memory settings of a server."""

import asyncio
import contextlib
import ctypes
import gc
import resource
from collections.abc import Coroutine
from typing import Any

import uvloop

LARGE = 256 * 1024
"""Blocks of memory of this many bytes or more return to the system when they are freed."""

MOST_FILES = 1_000_000

_M_MMAP_THRESHOLD = -3
"""From glibc's malloc.h."""


def run(life: Coroutine[Any, Any, None]) -> None:
    """Like :func:`asyncio.run`."""
    # A full collection would otherwise walk everything that the imports made: 100 ms.
    gc.collect()
    gc.freeze()
    _return_large_blocks()
    raise_file_limit()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(life)


def raise_file_limit() -> None:
    """Allow as many open files as the system permits. The usual default of 1,024 is less than the streams we serve."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if most == resource.RLIM_INFINITY else most
    with contextlib.suppress(OSError, ValueError):  # macOS reports a limit that it does not accept
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


def _return_large_blocks() -> None:
    # glibc raises this threshold to the largest block freed so far, and keeps such blocks in its heap from then on.
    with contextlib.suppress(AttributeError, OSError):  # another C library
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, LARGE)
