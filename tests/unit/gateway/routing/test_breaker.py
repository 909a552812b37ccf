"""A failing worker is kept out for a while, and let back in by one trial."""

from gateway.routing.breaker import OPEN_FIRST, OPEN_LAST, THRESHOLD, TRIAL_LASTS, Breakers

KEY = ("w", "m", "chat")


def opened(now: float = 0.0) -> Breakers:
    breakers = Breakers()
    for _ in range(THRESHOLD):
        breakers.failed(KEY, now)
    return breakers


def test_a_few_failures_in_a_row_open_it_and_fewer_do_not() -> None:
    breakers = Breakers()
    for _ in range(THRESHOLD - 1):
        breakers.failed(KEY, 0.0)
    assert not breakers.blocks(KEY, 0.0)
    breakers.failed(KEY, 0.0)
    assert breakers.blocks(KEY, 0.0)
    assert not breakers.blocks(("other", "m", "chat"), 0.0)
    assert not breakers.blocks(("w", "other", "chat"), 0.0)


def test_a_success_in_between_starts_the_count_anew() -> None:
    breakers = Breakers()
    for _ in range(THRESHOLD * 2):
        breakers.failed(KEY, 0.0)
        breakers.succeeded(KEY)
    assert not breakers.blocks(KEY, 0.0)
    assert len(breakers) == 0


def test_after_a_while_one_trial_is_let_through_and_only_one() -> None:
    breakers = opened()
    assert breakers.blocks(KEY, OPEN_FIRST - 0.1)
    assert not breakers.blocks(KEY, OPEN_FIRST)
    breakers.chosen(KEY, OPEN_FIRST)
    assert breakers.blocks(KEY, OPEN_FIRST)
    assert not breakers.blocks(KEY, OPEN_FIRST + TRIAL_LASTS)


def test_a_trial_that_succeeds_closes_it() -> None:
    breakers = opened()
    breakers.chosen(KEY, OPEN_FIRST)
    breakers.succeeded(KEY)
    assert not breakers.blocks(KEY, OPEN_FIRST)


def test_a_trial_whose_client_leaves_is_to_be_had_again() -> None:
    breakers = opened()
    breakers.chosen(KEY, OPEN_FIRST)
    breakers.abandoned(KEY, OPEN_FIRST + 1)
    assert not breakers.blocks(KEY, OPEN_FIRST + 1)


def test_every_trial_that_fails_doubles_the_wait_up_to_a_limit() -> None:
    breakers = opened()
    now, waits = 0.0, []
    for _ in range(7):
        start = now
        while breakers.blocks(KEY, now):
            now += 0.5
        waits.append(now - start)
        breakers.failed(KEY, now)
    assert waits[:3] == [OPEN_FIRST, OPEN_FIRST * 2, OPEN_FIRST * 4]
    assert waits[-1] == OPEN_LAST


def test_a_rate_limits_retry_after_counts() -> None:
    breakers = Breakers()
    for _ in range(THRESHOLD):
        breakers.failed(KEY, 0.0, retry_after=9.0)
    assert breakers.blocks(KEY, 8.9)


def test_a_worker_that_is_gone_leaves_nothing_behind() -> None:
    breakers = opened()
    breakers.forget("w")
    assert len(breakers) == 0
