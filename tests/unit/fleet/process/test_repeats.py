"""What repeats is logged once a minute, and how much is remembered is bounded."""

from fleet.process.repeats import EVERY, MOST, Repeats


def test_the_same_thing_is_new_once_a_minute() -> None:
    now = 0.0
    repeats = Repeats(lambda: now)
    assert repeats.is_new("a", 1)
    assert not repeats.is_new("a", 1)
    assert repeats.is_new("a", 2)
    now = EVERY + 1
    assert repeats.is_new("a", 1)


def test_however_many_things_repeat_few_are_remembered_and_logged() -> None:
    now = 0.0
    repeats = Repeats(lambda: now)
    assert sum(repeats.is_new(number) for number in range(10 * MOST)) == MOST
    assert len(repeats._logged) == MOST
    now = EVERY + 1
    assert repeats.is_new("later")
    assert len(repeats._logged) == 1
