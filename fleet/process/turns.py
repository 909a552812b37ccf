"""Long work on an event loop, done in short turns so that everything else on the loop runs in between.

A thread would not help: building Python objects holds the interpreter lock, and a loop that asks for the lock at each
step gets it every 5 ms, for one step.
"""

import asyncio
import gc
import time
from collections.abc import Generator
from typing import Any, Self, TypeVar, cast

import orjson

TURN = 0.005
"""Seconds that all users of a :class:`Turns` together may work before the loop runs."""

T = TypeVar("T")

Steps = Generator[None, None, T]
"""Long work that returns its result and yields between two steps."""


class Turns:
    """Shared by all long work on one loop: only one piece of work has a turn at a time."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.until = 0.0

    def turn(self, *, short: bool = False) -> "Turn":
        """An asynchronous context for one piece of work. Entering it waits for the first turn.

        ``short`` work, of one millisecond at most, does not wait.
        """
        return Turn(self, short)


class Turn:
    """One piece of work, in steps of up to 20 ms. Await :meth:`pause` between two steps."""

    def __init__(self, turns: Turns, short: bool) -> None:
        self._turns = turns
        self._short = short
        self._has_lock = False

    async def pause(self) -> None:
        """If this turn is over, wait for the next: after everything that is ready, and after all other work."""
        if not self._short and self._is_over():
            self._release()
            await self._acquire()

    async def run(self, steps: Steps[T]) -> T:
        """The result of ``steps``, with a :meth:`pause` after each."""
        while True:
            try:
                next(steps)
            except StopIteration as done:
                return cast("T", done.value)
            await self.pause()

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


def at_once(steps: Steps[T]) -> T:
    """The result of ``steps`` that are few."""
    while True:
        try:
            next(steps)
        except StopIteration as done:
            return cast("T", done.value)


def loads(text: bytes | str | memoryview) -> Any:
    """:func:`orjson.loads` without garbage collections, which take ten times as long where there are many containers.

    200,000 values take up to 12 ms.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        return orjson.loads(text)
    finally:
        if was_enabled:
            gc.enable()
