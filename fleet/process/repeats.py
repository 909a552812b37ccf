"""Keeps repetitions out of the log, so that a peer that always misbehaves does not fill it."""

import time
from collections.abc import Callable, Hashable

EVERY = 60.0
"""Seconds until the same thing is logged again."""

MOST = 200
"""Different things logged within that time. Further ones are dropped, which bounds both memory and log."""


class Repeats:
    """Remembers what was logged within the last :data:`EVERY` seconds of ``clock``."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._logged: dict[Hashable, float] = {}

    def is_new(self, *what: Hashable) -> bool:
        """Whether to log ``what`` now. If so, it is remembered as logged."""
        now = self._clock()
        if now - self._logged.get(what, float("-inf")) <= EVERY:
            return False
        if len(self._logged) >= MOST:
            self._logged = {known: at for known, at in self._logged.items() if now - at <= EVERY}
            if len(self._logged) >= MOST:
                return False
        self._logged[what] = now
        return True
