"""The fleets that the scenarios share; each scenario gets one of them whole."""

from collections.abc import Iterator

import pytest

from tests.faults.standing import Standing
from tests.harness.fleet import Fleet


@pytest.fixture(scope="package")
def plain_standing() -> Iterator[Standing]:
    with Standing() as standing:
        yield standing


@pytest.fixture(scope="package")
def narrow_standing() -> Iterator[Standing]:
    with Standing(WORKER_CAPACITY="4", GATEWAY_QUEUE_LIMIT="200") as standing:
        yield standing


@pytest.fixture(scope="package")
def hasty_standing() -> Iterator[Standing]:
    with Standing(
        FLEET_LINK_TIMEOUT="6", GATEWAY_STALL_TIMEOUT="5", GATEWAY_DRAIN_TIMEOUT="1", WORKER_DRAIN_TIMEOUT="1"
    ) as standing:
        yield standing


@pytest.fixture
def fleet(plain_standing: Standing) -> Iterator[Fleet]:
    """Two workers and a gateway with the settings that a user gets."""
    with plain_standing.whole() as fleet:
        yield fleet


@pytest.fixture
def narrow_fleet(narrow_standing: Standing) -> Iterator[Fleet]:
    """Two workers that take four chats each, and a gateway that lets 200 wait."""
    with narrow_standing.whole() as fleet:
        yield fleet


@pytest.fixture
def hasty_fleet(hasty_standing: Standing) -> Iterator[Fleet]:
    """Members that soon give up: a lost host after 6 s, who reads nothing after 5 s, a drain after 1 s."""
    with hasty_standing.whole() as fleet:
        yield fleet
