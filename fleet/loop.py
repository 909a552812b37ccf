"""Runs a process's life on uvloop, which wakes up for much less than asyncio's own loop does."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import uvloop


def run(life: Coroutine[Any, Any, None]) -> None:
    """As :func:`asyncio.run`."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(life)
