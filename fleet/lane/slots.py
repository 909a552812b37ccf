"""Time slots: a lane sends one batch per slot, and a worker reads all model streams at the start of a slot.

Slots lie on a grid of the monotonic clock. All members on one machine wake up at the same moments, so that a batch
finds its receiver awake, and one wake-up handles several batches.
"""

from math import ceil, floor

EARLY = 0.001
"""Event-loop timers have 1 ms resolution and may fire early. The grid is shifted by this many seconds, so an early
timer still lands in its slot."""


def slot(now: float, interval: float) -> int:
    """The slot that contains ``now``; ``interval`` is the length of a slot, above 0; both in seconds."""
    return floor((now + EARLY) / interval)


def slot_begins(number: int, interval: float) -> float:
    return number * interval - EARLY


def delay(at: float, now: float) -> float:
    """Delay in seconds for a loop timer that fires just after ``at``; 0 when that has passed."""
    return ceil((at - now) * 1000) / 1000 + EARLY if at > now else 0.0
