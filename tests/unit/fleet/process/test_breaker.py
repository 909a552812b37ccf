"""What fails in a row is left alone for a while, and asked again by one trial."""

from fleet.process.breaker import OPEN_FIRST, OPEN_LAST, THRESHOLD, TRIAL_LASTS, Breaker


def opened(now: float = 0.0) -> Breaker:
    breaker = Breaker()
    for _ in range(THRESHOLD):
        breaker.failed(now)
    return breaker


def test_a_few_failures_in_a_row_open_it_and_fewer_do_not() -> None:
    breaker = Breaker()
    for _ in range(THRESHOLD - 1):
        breaker.failed(0.0)
    assert not breaker.blocks(0.0)
    breaker.failed(0.0)
    assert breaker.blocks(0.0)


def test_a_failure_that_is_certain_opens_it_by_itself() -> None:
    breaker = Breaker()
    breaker.failed(0.0, certain=True)
    assert breaker.blocks(OPEN_FIRST - 0.1)
    assert not breaker.blocks(OPEN_FIRST)


def test_after_a_while_one_trial_is_let_through_and_only_one() -> None:
    breaker = opened()
    assert breaker.blocks(OPEN_FIRST - 0.1)
    assert not breaker.blocks(OPEN_FIRST)
    breaker.chosen(OPEN_FIRST)
    assert breaker.blocks(OPEN_FIRST)
    assert not breaker.blocks(OPEN_FIRST + TRIAL_LASTS)


def test_a_trial_without_an_outcome_is_to_be_had_again() -> None:
    breaker = opened()
    breaker.chosen(OPEN_FIRST)
    breaker.abandoned(OPEN_FIRST + 1)
    assert not breaker.blocks(OPEN_FIRST + 1)


def test_one_that_is_closed_has_no_trials() -> None:
    breaker = Breaker()
    breaker.failed(0.0)
    breaker.chosen(0.0)
    breaker.abandoned(0.0)
    assert not breaker.blocks(0.0)


def test_every_trial_that_fails_doubles_the_wait_up_to_a_limit() -> None:
    breaker = opened()
    now, waits = 0.0, []
    for _ in range(7):
        start = now
        while breaker.blocks(now):
            now += 0.5
        waits.append(now - start)
        breaker.failed(now)
    assert waits[:3] == [OPEN_FIRST, OPEN_FIRST * 2, OPEN_FIRST * 4]
    assert waits[-1] == OPEN_LAST


def test_a_rate_limits_retry_after_counts() -> None:
    breaker = Breaker()
    for _ in range(THRESHOLD):
        breaker.failed(0.0, retry_after=9.0)
    assert breaker.blocks(8.9)


def test_it_can_be_held_open() -> None:
    breaker = opened()
    breaker.hold(50.0)
    breaker.hold(40.0)
    assert breaker.blocks(49.9)
