"""The terminal and the parent that ``make run`` leaves us with."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

STDIN = 0
PR_SET_PDEATHSIG = 1

LOOK_EVERY = 0.5
"""Seconds between two looks at the parent."""


@contextlib.contextmanager
def foreground() -> Iterator[None]:
    """Have Ctrl-C reach this process and not its parent.

    ``make`` dies of a Ctrl-C even when what it runs ends well. So, if we share the terminal's foreground group with a
    parent, we take the terminal for a group of our own, and give it back. Ctrl-Z is ignored meanwhile: it would stop us
    but not the parent, for whose end the shell waits.
    """
    shared = _shared_group()
    if shared is None:
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGTTOU, signal.SIGTSTP)}
    os.setpgid(0, 0)
    os.tcsetpgrp(STDIN, os.getpgrp())
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # the parent, or the terminal, may have gone
            os.tcsetpgrp(STDIN, shared)
            os.setpgid(0, shared)
        for number, handler in before.items():
            signal.signal(number, handler)


def _shared_group() -> int | None:
    """Our process group, if it has the terminal and another process leads it."""
    try:
        group = os.getpgrp()
        return group if os.tcgetpgrp(STDIN) == group != os.getpid() else None
    except OSError:
        return None  # no terminal


def end_with_parent() -> None:
    """Have the kernel send SIGTERM to this process when its parent dies (Linux; elsewhere nothing happens).

    For a ``make`` that is killed: it cannot tell us.
    """
    if sys.platform != "linux":
        return
    with contextlib.suppress(ImportError, OSError, AttributeError):
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)


async def parent_interrupted() -> None:
    """Return when ``make`` was sent a SIGINT that we did not get (Linux; elsewhere never).

    ``make`` takes for granted that a terminal sends a SIGINT to everybody: it waits for us, inside its handler and so
    with the signal blocked, and tells us nothing. Somebody who sends it to ``make`` alone would wait for ever.
    """
    before = blocked = _parent_blocks_sigint()
    while before is not False or not blocked:
        await asyncio.sleep(LOOK_EVERY)
        blocked = _parent_blocks_sigint()


def _parent_blocks_sigint() -> bool | None:
    """Whether it does; None where that cannot be known."""
    try:
        status = Path(f"/proc/{os.getppid()}/status").read_text()
    except OSError:
        return None
    mask = int(status.partition("\nSigBlk:")[2].split()[0], 16)
    return bool(mask >> (signal.SIGINT - 1) & 1)
