"""A circuit breaker: after failures in a row nothing is sent for a while, then one request as a trial.

Pure: ``now`` is in seconds of any monotonic clock.
"""

THRESHOLD = 3
"""Failures in a row that open a breaker: one may be chance, and each costs a user a retry."""

OPEN_FIRST = 2.0
OPEN_LAST = 10.0
"""Seconds until the first trial. Each failed trial doubles them, up to the last."""

TRIAL_LASTS = 30.0
"""Seconds after which a trial without any outcome makes room for another."""


class Breaker:
    """Closed when it is made; a success is the end of it."""

    def __init__(self) -> None:
        self.failures = 0
        self._open_until = 0.0
        self._open_for = 0.0

    @property
    def has_opened(self) -> bool:
        return self.failures >= THRESHOLD

    def blocks(self, now: float) -> bool:
        return now < self._open_until

    def failed(self, now: float, retry_after: float = 0.0, *, certain: bool = False) -> None:
        """Count a failure; one that is ``certain`` to be no chance opens the breaker by itself."""
        self.failures = max(self.failures + 1, THRESHOLD if certain else 0)
        if self.has_opened:
            self._open_for = min(self._open_for * 2, OPEN_LAST) if self._open_for else OPEN_FIRST
            self._open_until = now + max(self._open_for, min(retry_after, OPEN_LAST))

    def chosen(self, now: float) -> None:
        """A request is sent there. If the breaker had opened, it is the trial, the only one until its outcome."""
        if self.has_opened:
            self.hold(now + TRIAL_LASTS)

    def hold(self, until: float) -> None:
        """Send nothing before that time."""
        self._open_until = max(self._open_until, until)

    def abandoned(self, now: float) -> None:
        """A request had no outcome: if it was the trial, another may follow at once."""
        if self.has_opened:
            self._open_until = min(self._open_until, now)
