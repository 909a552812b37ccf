"""How the benchmark counts and times tokens."""

import pytest

from bench.figures import Spread, percentile
from bench.order import Order, Token
from bench.recording import Arrival, Recording, Reply
from bench.result import Result, summarise


def replies(delays: list[float], faults: list[str]) -> tuple[list[Reply], list[Recording]]:
    """A reply whose token ``i`` is sent at ``i`` s and arrives ``delays[i]`` s later; the request was at -1 s."""
    order = Order("a", len(delays), 1000)
    arrivals = [Arrival(Token("a", place, place * 1_000_000), place + delay) for place, delay in enumerate(delays)]
    return [Reply(order, arrivals, faults, -1.0)], [Recording(order, -1.0, complete=True)]


@pytest.mark.parametrize(("percent", "expected"), [(50, 50), (95, 95), (99, 99), (100, 100), (0, 1)])
def test_percentiles_are_by_nearest_rank(percent: float, expected: float) -> None:
    assert percentile(range(100, 0, -1), percent) == expected


def test_a_percentile_of_one_value_is_that_value() -> None:
    assert percentile([7.0], 99) == 7.0


def test_a_spread_is_median_and_range() -> None:
    assert Spread.of([3, 1, 10]) == Spread(3, 1, 10)


def test_only_tokens_of_the_window_count() -> None:
    result = summarise(*replies([0.1] * 10, []), window=(2.0, 5.0), cpu=0.0)
    assert (result.window_tokens, result.tokens, result.window) == (3, 10, 3.0)


def test_a_load_is_busy_until_its_last_token() -> None:
    result = summarise(*replies([0.5] * 4, []), window=(0.0, 10.0), cpu=0.0)
    assert (result.busy, result.window) == (3.5, 10.0)
    assert summarise(*replies([0.5] * 4, []), window=(0.0, 2.0), cpu=0.0).busy == 2.0


def test_times_are_milliseconds() -> None:
    result = summarise(*replies([0.001, 0.001, 0.006, 0.001], []), window=(0.0, 10.0), cpu=0.0)
    assert result.first_token == pytest.approx([1001] * 3)
    assert result.delay == pytest.approx([1, 6, 6])
    assert result.added_gap == pytest.approx([0, 5, 5])


def test_what_was_not_seen_has_no_figure() -> None:
    result = summarise(*replies([], []), window=(0.0, 10.0), cpu=0.0)
    assert (result.first_token, result.delay, result.added_gap) == (None, None, None)


def test_replies_that_are_not_exact_are_counted_and_named() -> None:
    result = summarise(*replies([0.1], ["lost: 1 to 4"]), window=(0.0, 10.0), cpu=0.0)
    assert (result.faulty, result.examples) == (1, ["a: lost: 1 to 4"])


def test_a_result_survives_its_line() -> None:
    result = summarise(*replies([0.1], []), window=(0.0, 10.0), cpu=1.5)
    assert Result.from_json(result.as_json()) == result
