"""Percentiles of many values, median and range of a few."""

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least ``percent`` % of all are not above (nearest rank); there must be a value."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


class Spread(NamedTuple):
    """A figure over several runs."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """``values`` must not be empty."""
        return cls(statistics.median(values), min(values), max(values))
