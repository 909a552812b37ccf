"""How a process hears that it should end."""

import asyncio
import os
import signal

KILLED_AGAIN = 1
"""Exit code after a second signal."""


def stop_signals() -> asyncio.Event:
    """An event that the first SIGTERM or SIGINT sets; a second one ends the process at once."""
    stop = asyncio.Event()

    def hear() -> None:
        if stop.is_set():
            os._exit(KILLED_AGAIN)
        stop.set()

    loop = asyncio.get_running_loop()
    for sign in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(sign, hear)
    return stop
