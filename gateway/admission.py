"""Lets requests to the workers in the order in which they came, and keeps them waiting, within bounds, for room."""

import asyncio
import time
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field
from itertools import islice

from gateway.breaker import Breakers
from gateway.choice import choose
from gateway.directory import FRESH, Directory, Worker
from gateway.errors import Busy, GatewayError, Unavailable, UnknownModel

SHOWN = 20
"""Requests at the head of the queue that ``GET /fleet`` lists one by one."""


@dataclass(eq=False)
class _Waiting:
    model: str
    avoid: Collection[str]
    granted: asyncio.Future[Worker]
    since: float = field(default_factory=time.monotonic)


class Lease:
    """One request's place on a worker, given back at the end of the ``with`` block."""

    def __init__(self, worker: Worker, admission: "Admission") -> None:
        self.worker = worker
        self._admission = admission

    def __enter__(self) -> Worker:
        return self.worker

    def __exit__(self, *_: object) -> None:
        self.worker.in_flight -= 1
        self._admission.look()


class Admission:
    """First come, first served, per model. Call :meth:`look` whenever a worker may have become available."""

    def __init__(self, directory: Directory, breakers: Breakers, queue_limit: int, queue_timeout: float) -> None:
        self._directory = directory
        self._breakers = breakers
        self._queue_limit = queue_limit
        self._queue_timeout = queue_timeout
        self._waiting: deque[_Waiting] = deque()
        self.linked = False
        """Whether the host is there: while it is not, nobody can be asked."""
        self.linked_at = float("-inf")
        """Since when it is."""

    @property
    def waiting(self) -> int:
        """Requests that wait."""
        return len(self._waiting)

    def describe(self) -> dict[str, object]:
        """The queue's entry in ``GET /fleet``."""
        now = time.monotonic()
        first = [
            {"position": position, "model": waiting.model, "waited_seconds": round(now - waiting.since, 3)}
            for position, waiting in enumerate(islice(self._waiting, SHOWN), 1)
        ]
        return {
            "waiting": self.waiting,
            "limit": self._queue_limit,
            "oldest_seconds": first[0]["waited_seconds"] if first else 0.0,
            "first": first,
        }

    async def lease(self, model: str, avoid: Collection[str] = (), *, again: bool = False) -> Lease:
        """A place on a worker for ``model``, at once or after a wait.

        Raises :class:`UnknownModel`, :class:`Busy` (429) or, with no worker at all, :class:`Unavailable` (503).
        """
        self._check(model)
        if not again and len(self._waiting) >= self._queue_limit and not self._could_start(model, avoid):
            raise self._refusal("queue_full", "the queue is full")
        waiting = _Waiting(model, avoid, asyncio.get_running_loop().create_future())
        (self._waiting.appendleft if again else self._waiting.append)(waiting)
        self.look()
        taken = False
        try:
            async with asyncio.timeout(self._queue_timeout):
                worker = await waiting.granted
                taken = True
        except TimeoutError:
            raise self._refusal("queue_timeout", f"no room within {self._queue_timeout:g} s") from None
        finally:
            if not taken:
                self._give_up(waiting)
        return Lease(worker, self)

    def look(self) -> None:
        """Grant what can be granted, in order."""
        if not self._waiting or not self.linked:
            return
        ready = self._directory.ready(time.monotonic())
        still: deque[_Waiting] = deque()
        full: set[str] = set()
        for waiting in self._waiting:
            if waiting.model in full and not waiting.avoid:
                still.append(waiting)
            elif not self._answer(waiting, ready):
                still.append(waiting)
                if not waiting.avoid:
                    full.add(waiting.model)
        self._waiting = still

    def _answer(self, waiting: _Waiting, ready: list[Worker]) -> bool:
        if error := self._unknown(waiting.model):
            waiting.granted.set_exception(error)
            return True
        worker = self._choose(ready, waiting.model, waiting.avoid)
        if worker is None:
            return False
        worker.in_flight += 1
        self._breakers.chosen((worker.id, waiting.model), time.monotonic())
        waiting.granted.set_result(worker)
        return True

    def _give_up(self, waiting: _Waiting) -> None:
        """Leave the queue; a place that was granted in the same moment goes to the next."""
        if waiting in self._waiting:
            self._waiting.remove(waiting)
        granted = waiting.granted
        if granted.done() and not granted.cancelled() and granted.exception() is None:
            granted.result().in_flight -= 1
            self.look()

    def _could_start(self, model: str, avoid: Collection[str]) -> bool:
        return self.linked and self._choose(self._directory.ready(time.monotonic()), model, avoid) is not None

    def _choose(self, ready: list[Worker], model: str, avoid: Collection[str]) -> Worker | None:
        now = time.monotonic()
        failing = {worker.id for worker in ready if self._breakers.blocks((worker.id, model), now)}
        return choose(ready, model, failing.union(avoid) if failing else avoid)

    def _check(self, model: str) -> None:
        if error := self._unknown(model):
            raise error

    def _unknown(self, model: str) -> UnknownModel | None:
        now = time.monotonic()
        if not len(self._directory) or any(worker.serves(model) for worker in self._directory):
            return None
        # A rollout is not an outage, and who is there is known only a while after the link is up.
        if self._directory.named_since(model, now - self._queue_timeout) or now - self.linked_at < FRESH:
            return None
        return UnknownModel(model, self._directory.models())

    def _refusal(self, code: str, message: str) -> GatewayError:
        if not self.linked:
            return Unavailable("link_lost", "the host of the fleet cannot be reached")
        if not self._directory.ready(time.monotonic()):
            return Unavailable("no_worker", "no worker is ready")
        return Busy(code, f"every worker is at its capacity and {message}")
