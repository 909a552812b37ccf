"""Bounds the values of labels: what others say names no more series than there may be."""

import time
from collections.abc import Callable, Collection

from fleet.metrics.values import LONGEST, NAMES, OTHER

LOOK_EVERY = 1.0
"""Seconds between two looks at what is served, when a name is asked for that was not."""

KEPT = 900.0
"""Seconds for which a name that is no longer served keeps its series: several scrapes, and a rollout."""


class First:
    """The first names that come are named; those after ``most`` are :data:`OTHER`."""

    def __init__(self, most: int = NAMES) -> None:
        self._most = most
        self._names: set[str] = set()

    def __call__(self, name: str) -> str:
        if name in self._names:
            return name
        if len(self._names) >= self._most or len(name) > LONGEST:
            return OTHER
        self._names.add(name)
        return name


class Served:
    """Names that the fleet serves, at most ``most``; others are :data:`OTHER`, and the empty name is itself."""

    def __init__(
        self, served: Callable[[], Collection[str]], most: int = NAMES, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._served = served
        self._most = most
        self._clock = clock
        self._names: dict[str, float] = {}
        """When each was served last, as far as was looked."""
        self._looked_at = float("-inf")

    def __call__(self, name: str) -> str:
        if name in self._names or not name:
            return name
        now = self._clock()
        if now - self._looked_at >= LOOK_EVERY:
            self._look(now)
        return name if name in self._names else OTHER

    @property
    def names(self) -> list[str]:
        """Those that are named now."""
        return list(self._names)

    def gone(self) -> list[str]:
        """Look again; returns the names that were not served for :data:`KEPT` seconds, which are forgotten."""
        now = self._clock()
        self._look(now)
        gone = [name for name, seen in self._names.items() if now - seen > KEPT]
        for name in gone:
            del self._names[name]
        return gone

    def _look(self, now: float) -> None:
        self._looked_at = now
        for name in self._served():
            if name in self._names or (len(self._names) < self._most and 0 < len(name) <= LONGEST):
                self._names[name] = now
