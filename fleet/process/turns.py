"""Long work on an event loop, done in short turns between which everything else on the loop runs.

A thread would not do: building Python objects keeps the interpreter's lock, and a loop that asks for the lock at each
of its steps gets it every 5 ms, for one step.
"""

import asyncio
import gc
import time
from typing import Any, Self

import orjson

TURN = 0.005
"""Seconds of work, of all users of a :class:`Turns` together, between two turns of the loop."""


class Turns:
    """Shared by everything long on one loop: however many requests have work to do, one of them does a turn of it."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.until = 0.0

    def turn(self, *, short: bool = False) -> "Turn":
        """A piece of work, as an asynchronous context: entered when its first turn has come.

        What is known to be ``short``, a millisecond at the most, waits for no turn.
        """
        return Turn(self, short)


class Turn:
    """One piece of work, of steps that take up to 20 ms. Await :meth:`pause` between two of them."""

    def __init__(self, turns: Turns, short: bool) -> None:
        self._turns = turns
        self._short = short
        self._has_lock = False

    async def pause(self) -> None:
        """Wait for the next turn, if this one is over: behind everything that was ready before, and all other work."""
        if not self._short and self._is_over():
            self._release()
            await self._acquire()

    async def __aenter__(self) -> Self:
        if not self._short:
            await self._acquire()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._release()

    async def _acquire(self) -> None:
        await self._turns.lock.acquire()
        self._has_lock = True
        if self._is_over():
            try:
                await asyncio.sleep(0)
            except BaseException:
                self._release()
                raise
            self._turns.until = time.monotonic() + TURN

    def _is_over(self) -> bool:
        return time.monotonic() > self._turns.until

    def _release(self) -> None:
        if self._has_lock:
            self._has_lock = False
            self._turns.lock.release()


def loads(text: bytes | str | memoryview) -> Any:
    """As :func:`orjson.loads`, without the collections that take ten times as long where a text has many containers.

    200,000 values take up to 12 ms.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        return orjson.loads(text)
    finally:
        if was_enabled:
            gc.enable()
