"""Reads many streams together, once in each of the lane's slots, because a batch leaves only once in a slot anyway.

Waking up is most of the cost of a token: 5 to 10 us of work with warm caches, several times that with cold ones.
While tokens arrive more often than batches leave, only the clock wakes the worker. As in network cards, the first token
after a silence is read at once; the second one within a slot waits for the next slot.
"""

import asyncio
import select
import selectors
import time
from collections.abc import Callable

from fleet.lane import delay, slot, slot_begins

TURN = 0.02
"""Seconds that reading may take in one turn of the loop. The rest is read in the next slot: a server that sends as fast
as it can must not hold up the others."""

Read = Callable[[], bool]
"""Reads what has arrived. False when a task must run before all of it is written."""


class Pacer:
    """Calls ``read`` for each readable file descriptor, once in a slot of ``interval`` seconds.

    ``begin`` is called before those calls, and ``end`` after them; its argument is true when all of them returned true.
    """

    def __init__(
        self,
        interval: float,
        begin: Callable[[], None] = lambda: None,
        end: Callable[[bool], None] = lambda _: None,
    ) -> None:
        self._interval = interval
        self._begin = begin
        self._end = end
        self._loop = asyncio.get_running_loop()
        self._poll = _Poll()
        self._reads: dict[int, Read] = {}
        self._late: list[int] = []
        """Descriptors that the last turn left unread; the next turn begins with them."""
        self._slot = -1
        """The slot of the last reading."""
        self._timer: asyncio.TimerHandle | None = None
        self._listens = False

    def add(self, fd: int, read: Read) -> None:
        """Watch ``fd``, which the loop must not watch."""
        self._reads[fd] = read
        self._poll.add(fd)
        if self._timer is None:
            self._listen()

    def remove(self, fd: int) -> None:
        """Stop watching ``fd``, before it is closed."""
        del self._reads[fd]
        self._poll.remove(fd)
        if not self._reads:
            self._rest()

    def close(self) -> None:
        """Release the poll; everything must have been removed."""
        self._rest()
        self._poll.close()

    def _listen(self) -> None:
        if not self._listens:
            self._listens = True
            self._loop.add_reader(self._poll.fd, self._alert)

    def _ignore(self) -> None:
        if self._listens:
            self._listens = False
            self._loop.remove_reader(self._poll.fd)

    def _rest(self) -> None:
        self._ignore()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _alert(self) -> None:
        """Something arrived after a silence: read it now, or in the next slot if this slot's reading is done."""
        now = time.monotonic()
        if slot(now, self._interval) > self._slot:
            self._read(now)
        else:
            self._ignore()
            self._wait(now)

    def _wait(self, now: float) -> None:
        self._timer = self._loop.call_later(delay(slot_begins(self._slot + 1, self._interval), now), self._tick)

    def _tick(self) -> None:
        self._timer = None
        now = time.monotonic()
        more = True
        try:
            more = self._read(now)
        finally:
            if self._reads and more:
                self._wait(now)
            elif self._reads:
                self._listen()

    def _read(self, now: float) -> bool:
        self._slot = slot(now, self._interval)
        ready = self._poll.ready()
        if not ready:
            return False
        if self._late:
            late = dict.fromkeys(fd for fd in self._late if fd in self._reads)
            ready = list(late | dict.fromkeys(ready))
            self._late = []
        done = 0
        self._begin()
        try:
            for number, fd in enumerate(ready, 1):
                try:
                    done += self._reads[fd]()
                except Exception as error:  # as for the loop's callbacks: the others go on
                    self._loop.call_exception_handler({"message": "a paced read failed", "exception": error})
                if time.monotonic() - now > TURN:
                    self._late = ready[number:]
                    break
        finally:
            self._end(done == len(ready))
        return True


class _Poll:
    """Finds readable descriptors: with epoll itself where there is one, because ``selectors`` adds cost."""

    def __init__(self) -> None:
        self._epoll = select.epoll() if hasattr(select, "epoll") else None
        self._selector = None if self._epoll is not None else selectors.DefaultSelector()
        self.fd: int = (self._epoll or self._selector).fileno()  # type: ignore[union-attr]

    def add(self, fd: int) -> None:
        if self._epoll is not None:
            self._epoll.register(fd, select.EPOLLIN)
        elif self._selector is not None:
            self._selector.register(fd, selectors.EVENT_READ)

    def remove(self, fd: int) -> None:
        if self._epoll is not None:
            self._epoll.unregister(fd)
        elif self._selector is not None:
            self._selector.unregister(fd)

    def ready(self) -> list[int]:
        if self._epoll is not None:
            return [fd for fd, _ in self._epoll.poll(0, 4096)]
        assert self._selector is not None
        return [key.fd for key, _ in self._selector.select(0)]

    def close(self) -> None:
        if self._epoll is not None:
            self._epoll.close()
        elif self._selector is not None:
            self._selector.close()
