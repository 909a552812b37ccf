"""The grid of time that lanes and models' streams share."""

from hypothesis import given
from hypothesis import strategies as st

from fleet.lane.slots import EARLY, delay, slot, slot_begins

TIMES = st.floats(0, 1e6)
INTERVALS = st.floats(0.001, 1)
ROUNDING = 1e-6


@given(now=TIMES, interval=INTERVALS)
def test_every_moment_lies_in_the_slot_that_has_begun_and_not_ended(now: float, interval: float) -> None:
    number = slot(now, interval)
    assert slot_begins(number, interval) <= now + ROUNDING
    assert now - ROUNDING < slot_begins(number + 1, interval)


@given(now=TIMES, later=st.floats(0, 10), interval=INTERVALS)
def test_slots_only_grow(now: float, later: float, interval: float) -> None:
    assert slot(now, interval) <= slot(now + later, interval)


@given(number=st.integers(0, 10**6), interval=INTERVALS)
def test_members_of_one_machine_begin_a_slot_together(number: int, interval: float) -> None:
    """Whenever they woke up in the one before."""
    assert slot_begins(number, interval) == number * interval - EARLY
    assert slot(slot_begins(number, interval) + ROUNDING, interval) == number


@given(now=TIMES, wait=st.floats(0, 10))
def test_a_timer_fires_when_it_is_time_though_its_loop_counts_in_milliseconds(now: float, wait: float) -> None:
    at = now + wait
    left = delay(at, now)
    if at <= now:
        assert left == 0
    else:
        assert wait + EARLY - ROUNDING <= left < wait + 2 * EARLY + ROUNDING


def test_what_has_passed_is_not_waited_for() -> None:
    assert delay(1.0, 1.0) == delay(0.5, 1.0) == 0.0
