"""Slots of time: a lane sends one batch in each, and a worker reads its models together at the beginning of each.

They lie on a grid of the monotonic clock, so that all members of one machine wake up at the same moments: what one of
them sends finds the next one awake, and what comes from several is handled at once.
"""

from math import ceil, floor

EARLY = 0.001
"""Seconds by which a loop's timers may come too soon, as they count in whole milliseconds: so early is the grid."""


def slot(now: float, interval: float) -> int:
    """The number of the slot that ``now`` lies in; ``interval`` is its length, above 0; both in seconds."""
    return floor((now + EARLY) / interval)


def slot_begins(number: int, interval: float) -> float:
    """When a slot begins."""
    return number * interval - EARLY


def delay(at: float, now: float) -> float:
    """Seconds to give to a loop's timer so that it fires after ``at`` and not much later; 0 when that has passed."""
    return ceil((at - now) * 1000) / 1000 + EARLY if at > now else 0.0
