"""The fleet that all attacks share."""

from collections.abc import Iterator

import pytest

from tests.security.arena import Arena


@pytest.fixture(scope="package")
def arena() -> Iterator[Arena]:
    """A fleet to attack: mend it before each attack."""
    with Arena() as arena:
        yield arena
