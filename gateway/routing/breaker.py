"""Keeps a worker that fails with a model out of the choice for a while, and lets it back in by one trial request.

Pure: every method that needs the time takes it, in seconds of any monotonic clock.
"""

from dataclasses import dataclass

THRESHOLD = 3
"""Failures in a row that open a breaker: one may be chance, and every one costs a user a retry."""

OPEN_FIRST = 2.0
OPEN_LAST = 10.0
"""Seconds until the first trial; each failed trial doubles them up to the last."""

TRIAL_LASTS = 30.0
"""Seconds after which a trial that came to nothing, not even to a failure, makes room for another."""

Key = tuple[str, str]
"""A worker's id and a model's public name."""


@dataclass
class _Breaker:
    failures: int = 0
    open_for: float = 0.0
    open_until: float = 0.0


class Breakers:
    """One breaker per worker and model that has failed lately; there are none for those that work."""

    def __init__(self) -> None:
        self._breakers: dict[Key, _Breaker] = {}

    def __len__(self) -> int:
        return len(self._breakers)

    def blocks(self, key: Key, now: float) -> bool:
        """Whether requests should go elsewhere, if there is an elsewhere."""
        breaker = self._breakers.get(key)
        return breaker is not None and now < breaker.open_until

    def chosen(self, key: Key, now: float) -> None:
        """A request goes there: if the breaker had opened, that is the trial, and until its outcome the only one."""
        breaker = self._breakers.get(key)
        if breaker is not None and breaker.failures >= THRESHOLD:
            breaker.open_until = max(breaker.open_until, now + TRIAL_LASTS)

    def failed(self, key: Key, now: float, retry_after: float = 0.0) -> None:
        """A request failed there, by the fault of the worker or its model."""
        breaker = self._breakers.setdefault(key, _Breaker())
        breaker.failures += 1
        if breaker.failures >= THRESHOLD:
            breaker.open_for = min(breaker.open_for * 2, OPEN_LAST) if breaker.open_for else OPEN_FIRST
            breaker.open_until = now + max(breaker.open_for, min(retry_after, OPEN_LAST))

    def abandoned(self, key: Key, now: float) -> None:
        """The client of a request left before there was any outcome: a trial is to be had again."""
        breaker = self._breakers.get(key)
        if breaker is not None and breaker.failures >= THRESHOLD:
            breaker.open_until = min(breaker.open_until, now)

    def succeeded(self, key: Key) -> None:
        """A request got its first token there."""
        self._breakers.pop(key, None)

    def forget(self, worker_id: str) -> None:
        """A worker is gone."""
        for key in [key for key in self._breakers if key[0] == worker_id]:
            del self._breakers[key]
