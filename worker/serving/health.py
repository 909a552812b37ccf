"""Which models and agents fail for everyone, judged by how their runs end: :class:`Judge` tells the gateways.

Only the worker judges what it serves, and each worker for itself: one may reach a provider that another cannot.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from fleet import logs
from fleet.process.breaker import Breaker
from protos import chat_pb2 as pb
from worker.wire.reach import Reach

log = logs.logger(__name__)

UNREACHABLE = "model_unreachable"
NO_TOKEN = "first_token_timeout"  # noqa: S105
"""With which a gateway cancels a run whose model says nothing."""

CERTAIN = frozenset({UNREACHABLE, "model_quota_exhausted"})
"""Codes of failures that no request can have caused: one is enough. So is 401, the refusal of the worker's key."""

COUNTED = CERTAIN | {
    *("model_failed", "model_timeout", "model_stream_broken", "model_rate_limited"),
    *("model_unauthorized", "model_not_found", "internal_error"),
    NO_TOKEN,
}
"""Codes that count once there are several in a row. The others are of the request's or the agent's own making."""

FORGET = 60.0
"""Seconds without a run after which nothing is known any more, and it may serve again."""

REACH_EVERY = 2.0
"""Seconds between two tries to reach the address of a model that could not be reached."""

Key = tuple[str, str]
"""A public name and an endpoint."""


class Addresses(Protocol):
    def reach(self, name: str) -> Reach | None:
        """How to try the address of a name's model; None where that is not known."""

    def alike(self, name: str) -> list[Key]:
        """What has the same address."""


@dataclass(eq=False)
class _Case:
    """What is known of one name at one endpoint since its last answer."""

    breaker: Breaker = field(default_factory=Breaker)
    code: str = ""
    request_id: str = ""
    failed_at: float = 0.0
    since: float | None = None
    """When it began to fail for everyone; None as long as it may be chance."""


class Judge:
    """``changed`` is called when something begins to fail for everyone, and when it answers again."""

    def __init__(self, changed: Callable[[], None] = lambda: None, clock: Callable[[], float] = time.monotonic) -> None:
        self.changed = changed
        self._clock = clock
        self._cases: dict[Key, _Case] = {}

    def began(self, key: Key) -> None:
        """A run begins, and if none is, it is the trial."""
        case, now = self._cases.get(key), self._clock()
        if case is not None and case.since is not None and not case.breaker.blocks(now):
            case.breaker.chosen(now)

    def answered(self, key: Key) -> None:
        case = self._cases.pop(key, None)
        if case is not None and case.since is not None:
            log.info("answers again", model=key[0], endpoint=key[1], seconds=round(self._clock() - case.since, 1))
            self.changed()

    def failed(self, key: Key, request_id: str, error: pb.Error) -> None:
        """A run ended in ``error`` without an answer. The attempts of one request count once."""
        if error.code not in COUNTED:
            self.ended(key)
            return
        now = self._clock()
        case = self._cases.setdefault(key, _Case())
        certain = error.code in CERTAIN or error.provider.status == 401
        if case.request_id != request_id or certain or case.since is not None:
            case.breaker.failed(now, error.retry_after.ToMilliseconds() / 1000, certain=certain)
        case.code, case.request_id, case.failed_at = error.code, request_id, now
        if case.since is None and case.breaker.has_opened:
            self._begin(key, case)

    def _begin(self, key: Key, case: _Case) -> None:
        case.since = case.failed_at
        log.warning("fails for everyone", model=key[0], endpoint=key[1], code=case.code)
        self.changed()

    def ended(self, key: Key) -> None:
        """A run ended, and its end says nothing of what it ran on."""
        if case := self._cases.get(key):
            case.breaker.abandoned(self._clock())

    def forget(self, name: str) -> None:
        """Its entry has changed."""
        self._cases = {key: case for key, case in self._cases.items() if key[0] != name}

    def failing(self) -> list[pb.Failing]:
        now = self._clock()
        for case in self._cases.values():
            if case.since is not None and now - case.failed_at > FORGET and not case.breaker.blocks(now):
                case.since = None  # the next failure is enough to open it again
        return [
            self._describe(key, case.since, case, now) for key, case in self._cases.items() if case.since is not None
        ]

    def _describe(self, key: Key, since: float, case: _Case, now: float) -> pb.Failing:
        failing = pb.Failing(name=key[0], endpoint=key[1], code=case.code, trial=not case.breaker.blocks(now))
        failing.since.FromMilliseconds(int((now - since) * 1000))
        return failing

    # ------------------------------------------------------------ addresses

    async def watch(self, addresses: Addresses) -> None:
        """Try the addresses of models that could not be reached, without a request: it costs no one anything."""
        while True:
            await asyncio.sleep(REACH_EVERY)
            tried = [
                self._try(key, case, found, addresses)
                for key, case in self._cases.items()
                if case.since is not None and case.code == UNREACHABLE and (found := addresses.reach(key[0]))
            ]
            await asyncio.gather(*tried)

    async def _try(self, key: Key, case: _Case, reach: Reach, addresses: Addresses) -> None:
        if await reach():
            if self._cases.get(key) is case and case.code == UNREACHABLE:
                self.answered(key)
            return
        now = self._clock()
        for other in (key, *addresses.alike(key[0])):
            found = case if other == key else self._cases.setdefault(other, _Case())
            if found.since is None:
                found.breaker.failed(now, certain=True)
                found.code = UNREACHABLE
            if found.code == UNREACHABLE:
                found.failed_at = now
                found.breaker.hold(now + 2 * REACH_EVERY)  # no trial before the next try
            if found.since is None:
                self._begin(other, found)


class Judged:
    """One run, as it is judged."""

    def __init__(self, judge: Judge, name: str, endpoint: str, request_id: str) -> None:
        self._judge = judge
        self._key = (name, endpoint)
        self._request_id = request_id
        self._is_open = True

    def began(self) -> None:
        self._judge.began(self._key)

    def answered(self) -> None:
        """The first event was written: what comes then is no matter of whether it can be had."""
        if self._is_open:
            self._is_open = False
            self._judge.answered(self._key)

    def ended(self, end: pb.Done | pb.Error | pb.Cancelled) -> None:
        if not self._is_open:
            return
        if isinstance(end, pb.Done):
            self.answered()
            return
        self._is_open = False
        if isinstance(end, pb.Error):
            self._judge.failed(self._key, self._request_id, end)
        elif end.reason == NO_TOKEN:
            self._judge.failed(self._key, self._request_id, pb.Error(code=NO_TOKEN))
        else:
            self._judge.ended(self._key)
