"""No label has more values than it may."""

from fleet.metrics.names import KEPT, LOOK_EVERY, First, Served
from fleet.metrics.values import LONGEST


class Fleet:
    """What is served, the time, and how often it was looked at."""

    def __init__(self, *names: str) -> None:
        self.names = list(names)
        self.now = 0.0
        self.looks = 0

    def served(self) -> list[str]:
        self.looks += 1
        return self.names


def test_the_first_names_are_named() -> None:
    first = First(2)
    assert [first(name) for name in ("a", "b", "c", "a")] == ["a", "b", "other", "a"]


def test_only_what_is_served_is_named() -> None:
    fleet = Fleet("a")
    served = Served(fleet.served, clock=lambda: fleet.now)
    assert [served(name) for name in ("a", "tell me a secret", "")] == ["a", "other", ""]
    fleet.names.append("b")
    fleet.now += LOOK_EVERY
    assert served("b") == "b"


def test_names_that_nobody_serves_cost_one_look_a_second() -> None:
    fleet = Fleet("a")
    served = Served(fleet.served, clock=lambda: fleet.now)
    for number in range(1000):
        served(f"unknown-{number}")
    assert fleet.looks == 1


def test_a_worker_that_serves_a_thousand_names_gets_as_many_as_there_may_be() -> None:
    fleet = Fleet(*(f"m{number}" for number in range(1000)))
    served = Served(fleet.served, most=3, clock=lambda: fleet.now)
    assert {served(name) for name in fleet.names} == {"m0", "m1", "m2", "other"}


def test_a_name_is_forgotten_when_it_was_away_for_long() -> None:
    fleet = Fleet("a", "b")
    served = Served(fleet.served, clock=lambda: fleet.now)
    assert served.gone() == []
    fleet.names.remove("a")
    fleet.now += KEPT
    assert served.gone() == []
    fleet.now += 1
    assert served.gone() == ["a"]
    assert served.names == ["b"]


def test_a_name_that_is_too_long_is_not_named() -> None:
    long = "x" * (LONGEST + 1)
    assert First()(long) == "other"
    assert Served(lambda: [long])(long) == "other"
