"""There are never too many connections that have not authenticated, and no source pushes out another's."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host.pending import Allowance, Pending, source_of


def test_the_source_with_the_most_loses_its_oldest() -> None:
    pending: Pending[str] = Pending(3)
    assert [pending.add(name, "crowd") for name in ("a", "b")] == [None, None]
    assert pending.add("c", "other") is None
    assert pending.add("d", "crowd") == "a"
    assert pending.add("e", "other") == "b"
    assert len(pending) == 3


def test_a_connection_can_be_removed_once_and_then_counts_no_more() -> None:
    pending: Pending[str] = Pending(1)
    pending.add("a", "x")
    pending.remove("a", "x")
    pending.remove("a", "x")
    pending.remove("never", "y")
    assert len(pending) == 0
    assert pending.add("b", "x") is None


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans())), st.integers(1, 6))
def test_it_holds_the_newest_of_each_source_within_its_bound(steps: list[tuple[int, bool]], most: int) -> None:
    pending: Pending[int] = Pending(most)
    held: list[tuple[int, int]] = []  # name and source, the oldest first
    for name, (source, leaves) in enumerate(steps):
        if leaves and held:
            pending.remove(held[0][0], str(held[0][1]))
            held.pop(0)
        held.append((name, source))
        dropped = pending.add(name, str(source))
        if len(held) <= most:
            assert dropped is None
        else:
            sizes = Counter(source for _, source in held)
            victim = next(pair for pair in held if pair[0] == dropped)
            assert sizes[victim[1]] == max(sizes.values())
            assert victim == next(pair for pair in held if pair[1] == victim[1]), "the oldest of its source"
            held.remove(victim)
        assert len(pending) == len(held) <= most


def test_an_allowance_passes_a_burst_and_then_its_rate() -> None:
    allowance = Allowance(100, 10, 0.0)
    assert allowance.wait(100, 0.0) == 0
    allowance.spend(100)
    assert allowance.wait(20, 0.0) == 2
    allowance.spend(20)
    assert allowance.wait(20, 1.0) == 3
    assert allowance.wait(100, 1000.0) == 0, "what was not used is kept up to the burst"
    assert allowance.wait(101, 1000.0) > 0


@given(st.lists(st.tuples(st.integers(0, 50), st.floats(0, 5))))
def test_an_allowance_never_passes_more_than_burst_and_rate(steps: list[tuple[int, float]]) -> None:
    allowance, now, passed = Allowance(100, 10, 0.0), 0.0, 0
    for size, later in steps:
        now += later
        if allowance.wait(size, now) == 0:
            allowance.spend(size)
            passed += size
        assert passed <= 100 + 10 * now + 1e-6


@pytest.mark.parametrize(
    ("host", "source"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
        ("/run/host.sock", "/run/host.sock"),
    ],
)
def test_one_network_of_ipv6_counts_as_one_source(host: str, source: str) -> None:
    assert source_of(host) == source
