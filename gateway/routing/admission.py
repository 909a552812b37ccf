"""The queue for workers: first come, first served per model, bounded in length and time."""

import asyncio
import heapq
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass, field
from itertools import count, islice

from gateway.errors import Busy, GatewayError, Unavailable, UnknownModel
from gateway.routing.breaker import Breakers
from gateway.routing.choice import choose
from gateway.routing.directory import CHAT, FRESH, Directory, Worker

SHOWN = 20


@dataclass(eq=False)
class Claim:
    """What one request asks of the queue, over all its attempts. An empty ``model`` means any worker's default.

    ``allows`` says which models' names its client may be told.
    """

    model: str
    endpoint: str = CHAT
    allows: Callable[[str], bool] = lambda _: True
    avoid: set[str] = field(default_factory=set)
    """Workers that failed it: others are preferred."""
    waited: float = 0.0  # seconds in the queue so far
    is_retry: bool = False
    """Whether it had a worker before. Retries go first."""


class Lease:
    """A place on a worker, given back at the end of the ``with`` block."""

    def __init__(self, worker: Worker, model: str, admission: "Admission") -> None:
        self.worker = worker
        self._places = worker.places(model)
        self._admission = admission
        for places in self._places:
            places.in_flight += 1

    def __enter__(self) -> Worker:
        return self.worker

    def __exit__(self, *_: object) -> None:
        for places in self._places:
            places.in_flight -= 1
        self._admission.dispatch()


@dataclass(eq=False)
class _Waiting:
    claim: Claim
    granted: asyncio.Future[Lease]
    since: float
    rank: tuple[bool, int]  # retries first, then by arrival
    line: "_Line"


@dataclass(frozen=True)
class _Line:
    """Requests for which the same worker would be chosen: if the first must wait, all must."""

    is_retry: bool
    model: str
    endpoint: str
    avoid: frozenset[str]


class Admission:
    """Leases places on workers. Call :meth:`dispatch` whenever a worker may have become available.

    A retry that finds the queue full displaces the latest request that is none.
    """

    def __init__(
        self,
        directory: Directory,
        breakers: Breakers,
        queue_limit: int,
        queue_timeout: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._directory = directory
        self._breakers = breakers
        self._queue_limit = queue_limit
        self._queue_timeout = queue_timeout
        self._clock = clock
        self._lines: dict[_Line, OrderedDict[_Waiting, None]] = {}
        self._arrivals = count()
        self.waiting = 0
        self.linked = False
        """Whether the link to the host is up: while it is not, no worker can be reached."""
        self.linked_at = float("-inf")

    def waiting_for(self) -> dict[str, int]:
        """How many requests wait for each name."""
        ready = self._directory.ready(self._clock())
        default = ready[0].default if ready else ""
        counts: Counter[str] = Counter()
        for name, line in self._lines.items():
            counts[name.model or default] += len(line)
        return dict(counts)

    def describe(self) -> dict[str, object]:
        now = self._clock()
        in_order: Iterator[_Waiting] = heapq.merge(*self._lines.values(), key=lambda waiting: waiting.rank)
        first = [
            {"position": position, "model": waiting.claim.model, "waited_seconds": round(now - waiting.since, 3)}
            for position, waiting in enumerate(islice(in_order, SHOWN), 1)
        ]
        return {
            "waiting": self.waiting,
            "limit": self._queue_limit,
            "oldest_seconds": round(self.oldest(), 3),
            "first": first,
        }

    def oldest(self) -> float:
        """Seconds for which the oldest request has waited."""
        now = self._clock()
        return now - min((next(iter(line)).since for line in self._lines.values()), default=now)

    async def lease(self, claim: Claim) -> Lease:
        """A place on a worker, at once or after a wait. Raises a :class:`GatewayError` with status 404, 429 or 503."""
        if error := self._unknown(claim):
            raise error
        waiting = self._enqueue(claim)
        self.dispatch()
        while self.waiting > self._queue_limit:
            self._displace(waiting)
        leased = False
        try:
            lease = await self._granted(waiting)
            leased = claim.is_retry = True
        finally:
            claim.waited += self._clock() - waiting.since
            if not leased:
                self._give_up(waiting)
        return lease

    def dispatch(self) -> None:
        """Grant places in the queue's order. The cost depends on the number of lines, not of requests."""
        if not self.waiting or not self.linked:
            return
        self._refuse_unknown()
        ready = self._directory.ready(self._clock())
        heads = [(next(iter(line)).rank, name) for name, line in self._lines.items()]
        heapq.heapify(heads)
        while heads:
            name = heads[0][1]
            waiting = next(iter(self._lines[name]))
            if not waiting.granted.done() and not self._grant(waiting, ready):
                heapq.heappop(heads)
                continue
            self._remove(waiting)
            if line := self._lines.get(name):
                heapq.heapreplace(heads, (next(iter(line)).rank, name))
            else:
                heapq.heappop(heads)

    def others(self, claim: Claim, failed: Container[int]) -> tuple[set[str], set[str]]:
        """The ready workers for a claim: those with another route to its model than ``failed``, and the rest."""
        ready = self._directory.ready(self._clock())
        serving = [worker for worker in ready if worker.serves(claim.model, claim.endpoint)]
        others = {worker.id for worker in serving if worker.route(claim.model) not in failed}
        return others, {worker.id for worker in serving} - others

    def _enqueue(self, claim: Claim) -> _Waiting:
        name = _Line(claim.is_retry, claim.model, claim.endpoint, frozenset(claim.avoid))
        rank = not claim.is_retry, next(self._arrivals)
        waiting = _Waiting(claim, asyncio.get_running_loop().create_future(), self._clock(), rank, name)
        self._lines.setdefault(name, OrderedDict())[waiting] = None
        self.waiting += 1
        return waiting

    def _remove(self, waiting: _Waiting) -> None:
        line = self._lines.get(waiting.line)
        if line is not None and waiting in line:
            del line[waiting]
            self.waiting -= 1
            if not line:
                del self._lines[waiting.line]

    def _displace(self, newcomer: _Waiting) -> None:
        """Refuse the latest request that is no retry, or the newcomer if all are retries."""
        latest = (next(reversed(line)) for name, line in self._lines.items() if not name.is_retry)
        waiting = max(latest, key=lambda waiting: waiting.rank, default=newcomer)
        self._remove(waiting)
        if not waiting.granted.done():
            waiting.granted.set_exception(self._refusal("queue_full", "the queue is full"))

    async def _granted(self, waiting: _Waiting) -> Lease:
        if waiting.granted.done():
            return waiting.granted.result()
        try:
            async with asyncio.timeout(max(0.0, self._queue_timeout - waiting.claim.waited)):
                return await waiting.granted
        except TimeoutError:
            raise self._refusal("queue_timeout", f"no room within {self._queue_timeout:g} s") from None

    def _grant(self, waiting: _Waiting, ready: list[Worker]) -> bool:
        claim = waiting.claim
        worker = self._choose(ready, claim)
        if worker is None:
            return False
        self._breakers.chosen(worker.id, self._clock())
        worker.chosen(claim.model, claim.endpoint)
        waiting.granted.set_result(Lease(worker, claim.model, self))
        return True

    def _give_up(self, waiting: _Waiting) -> None:
        """Leave the queue. A place that was granted in the same turn of the loop goes to the next request."""
        self._remove(waiting)
        granted = waiting.granted
        if granted.done() and not granted.cancelled() and granted.exception() is None:
            granted.result().__exit__()

    def _choose(self, ready: list[Worker], claim: Claim) -> Worker | None:
        now, model, endpoint = self._clock(), claim.model, claim.endpoint
        failing = {
            worker.id for worker in ready if worker.blocks(model, endpoint) or self._breakers.blocks(worker.id, now)
        }
        return choose(ready, model, claim.avoid, endpoint, failing)

    def _refuse_unknown(self) -> None:
        for line in list(self._lines.values()):
            for waiting in list(line) if self._unknown(next(iter(line)).claim) else ():
                self._remove(waiting)
                if not waiting.granted.done() and (error := self._unknown(waiting.claim)):
                    waiting.granted.set_exception(error)

    def _unknown(self, claim: Claim) -> GatewayError | None:
        now, model, endpoint = self._clock(), claim.model, claim.endpoint
        if not len(self._directory) or any(worker.serves(model, endpoint) for worker in self._directory):
            return None
        # In a rollout a model may be away for a moment, and after a join the workers become known one by one.
        if self._directory.named_since(model, endpoint, now - self._queue_timeout) or now - self.linked_at < FRESH:
            return None
        known = [name for name in self._directory.models(endpoint) if claim.allows(name)]
        return UnknownModel(model, known, "" if endpoint == CHAT else endpoint)

    def _refusal(self, code: str, message: str) -> GatewayError:
        if not self.linked:
            return Unavailable("link_lost", "the host of the fleet cannot be reached")
        if not self._directory.ready(self._clock()):
            return Unavailable("no_worker", "no worker is ready")
        return Busy(code, f"every worker that serves it is at its capacity, and {message}")
