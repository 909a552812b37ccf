"""``make run``: tells when something happens to ``make`` alone, which does not tell us itself."""

import asyncio
import os
import signal
from pathlib import Path

POLL_INTERVAL = 0.5

FATAL = sum(1 << number - 1 for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT))


async def make_gone() -> None:
    """Return when ``make``, our parent, was killed, or received a fatal signal that we did not get.

    Only Linux shows the second.
    """
    # `make` assumes that such a signal came from the terminal and reached us as well: it waits for us inside its signal
    # handler, where the signal is blocked. What its own parent had blocked before tells us nothing.
    make = os.getppid()
    inherited = _blocked(make)
    while os.getppid() == make and not _blocked(make) & ~inherited:  # noqa: ASYNC110 (nothing sets an event)
        await asyncio.sleep(POLL_INTERVAL)


def _blocked(pid: int) -> int:
    """Which of the fatal signals a process blocks, as a mask."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return int(status.partition("\nSigBlk:")[2].split()[0], 16) & FATAL
