"""The fleets that all attacks share."""

from collections import deque
from collections.abc import Iterator

import pytest

from tests.security.arena import Arena


@pytest.fixture(scope="package")
def arenas() -> Iterator[deque[Arena]]:
    with Arena() as one, Arena() as other:
        yield deque([one, other])


@pytest.fixture
def arena(arenas: deque[Arena]) -> Arena:
    """A fleet to attack: mend it before each attack. They take turns, because it takes a worker up to a second to say
    that it is idle again."""
    arenas.rotate()
    return arenas[0]
