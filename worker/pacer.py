"""Reads many streams together, when the next batch to the gateway would take what has come anyway.

Waking up is most of what a token costs a worker: 5 to 10 us of work when all is warm, several times that when each
token finds the caches cold. So while tokens come more often than batches go, nothing wakes the worker but the clock: it
reads what has come for all streams at once, at the beginning of each of the lane's slots. As network cards do it, the
first token after a silence is read when it comes; it is the second one within a slot that waits for the next.
"""

import asyncio
import selectors
import time
from collections.abc import Callable

from fleet.lane import delay, slot, slot_begins


class Pacer:
    """Calls ``read`` for each file descriptor that has something to read, once in a slot of ``interval`` seconds."""

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._loop = asyncio.get_running_loop()
        self._selector = selectors.DefaultSelector()
        self._slot = -1
        """The last slot in which was read."""
        self._timer: asyncio.TimerHandle | None = None
        self._listens = False

    def add(self, fd: int, read: Callable[[], None]) -> None:
        """Watch ``fd``, which must not be watched by the loop meanwhile."""
        self._selector.register(fd, selectors.EVENT_READ, read)
        if self._timer is None:
            self._listen()

    def remove(self, fd: int) -> None:
        """Watch it no more; before it is closed."""
        self._selector.unregister(fd)
        if not self._selector.get_map():
            self._rest()

    def close(self) -> None:
        """End; everything must have been removed."""
        self._rest()
        self._selector.close()

    def _listen(self) -> None:
        if not self._listens:
            self._listens = True
            self._loop.add_reader(self._selector.fileno(), self._alert)

    def _ignore(self) -> None:
        if self._listens:
            self._listens = False
            self._loop.remove_reader(self._selector.fileno())

    def _rest(self) -> None:
        self._ignore()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _alert(self) -> None:
        """Something came while nothing was due: read it, or, if this slot's reading is done, in the next slot."""
        now = time.monotonic()
        if slot(now, self._interval) > self._slot:
            self._read(now)
        else:
            self._ignore()
            self._wait(now)

    def _wait(self, now: float) -> None:
        left = delay(slot_begins(self._slot + 1, self._interval), now)
        self._timer = self._loop.call_later(left, self._tick)

    def _tick(self) -> None:
        self._timer = None
        now = time.monotonic()
        if self._read(now):
            self._wait(now)
        elif self._selector.get_map():
            self._listen()

    def _read(self, now: float) -> bool:
        self._slot = slot(now, self._interval)
        ready = self._selector.select(0)
        for key, _ in ready:
            key.data()
        return bool(ready)
