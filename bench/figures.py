"""Percentiles of many values, median and range of a few."""

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple


def percentile(values: Sequence[float], percent: float) -> float:
    """By nearest rank: the smallest value with at least ``percent`` % of all at or below it. Needs a value."""
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
