"""Circuit breakers: a worker that fails with a model gets no requests for a while, then one as a trial.

Pure: ``now`` is in seconds of any monotonic clock.
"""

from dataclasses import dataclass

THRESHOLD = 3
"""Failures in a row that open a breaker: one may be chance, and each costs a user a retry."""

OPEN_FIRST = 2.0
OPEN_LAST = 10.0
"""Seconds until the first trial. Each failed trial doubles them, up to the last."""

TRIAL_LASTS = 30.0
"""Seconds after which a trial without any outcome makes room for another."""

Key = tuple[str, str, str]
"""A worker, a model and an endpoint."""


@dataclass
class _Breaker:
    failures: int = 0
    open_for: float = 0.0
    open_until: float = 0.0


class Breakers:
    """One breaker for each worker, model and endpoint that has failed since its last success."""

    def __init__(self) -> None:
        self._breakers: dict[Key, _Breaker] = {}

    def __len__(self) -> int:
        return len(self._breakers)

    def blocks(self, key: Key, now: float) -> bool:
        breaker = self._breakers.get(key)
        return breaker is not None and now < breaker.open_until

    def open(self, now: float) -> list[str]:
        """The models of the keys that are blocked."""
        return [model for (_, model, _), breaker in self._breakers.items() if now < breaker.open_until]

    def chosen(self, key: Key, now: float) -> None:
        """A request is sent there. If the breaker had opened, it is the trial, the only one until its outcome."""
        breaker = self._breakers.get(key)
        if breaker is not None and breaker.failures >= THRESHOLD:
            breaker.open_until = max(breaker.open_until, now + TRIAL_LASTS)

    def failed(self, key: Key, now: float, retry_after: float = 0.0) -> None:
        breaker = self._breakers.setdefault(key, _Breaker())
        breaker.failures += 1
        if breaker.failures >= THRESHOLD:
            breaker.open_for = min(breaker.open_for * 2, OPEN_LAST) if breaker.open_for else OPEN_FIRST
            breaker.open_until = now + max(breaker.open_for, min(retry_after, OPEN_LAST))

    def abandoned(self, key: Key, now: float) -> None:
        """The client left before there was an outcome: if it was the trial, another may follow at once."""
        breaker = self._breakers.get(key)
        if breaker is not None and breaker.failures >= THRESHOLD:
            breaker.open_until = min(breaker.open_until, now)

    def succeeded(self, key: Key) -> None:
        self._breakers.pop(key, None)

    def forget(self, worker_id: str) -> None:
        for key in [key for key in self._breakers if key[0] == worker_id]:
            del self._breakers[key]
