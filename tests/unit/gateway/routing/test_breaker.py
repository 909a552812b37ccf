"""A worker that does not do what it is told is kept out for a while, and let back in by one trial."""

from fleet.process.breaker import OPEN_FIRST, THRESHOLD
from gateway.routing.breaker import Breakers


def opened() -> Breakers:
    breakers = Breakers()
    for _ in range(THRESHOLD):
        breakers.failed("w", 0.0)
    return breakers


def test_each_worker_has_its_own() -> None:
    breakers = opened()
    assert breakers.blocks("w", 0.0)
    assert not breakers.blocks("other", 0.0)


def test_a_success_in_between_starts_the_count_again() -> None:
    breakers = Breakers()
    for _ in range(THRESHOLD * 2):
        breakers.failed("w", 0.0)
        breakers.succeeded("w")
    assert not breakers.blocks("w", 0.0)
    assert len(breakers) == 0


def test_there_is_one_trial_and_another_if_its_client_leaves() -> None:
    breakers = opened()
    breakers.chosen("w", OPEN_FIRST)
    assert breakers.blocks("w", OPEN_FIRST)
    breakers.abandoned("w", OPEN_FIRST)
    assert not breakers.blocks("w", OPEN_FIRST)
    breakers.chosen("other", 0.0)
    breakers.abandoned("other", 0.0)
    assert len(breakers) == 1


def test_a_worker_that_is_gone_leaves_nothing_behind() -> None:
    breakers = opened()
    breakers.forget("w")
    assert len(breakers) == 0
