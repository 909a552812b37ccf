"""The polls that all tests wait with: they end with the state, or say what they waited for."""

import pytest

from tests.harness.waiting import eventually, until, wait_until


def test_a_state_is_returned_once_it_is_there() -> None:
    states = iter([0, "", None, 7])
    assert wait_until(lambda: next(states), 5) == 7


def test_a_state_that_does_not_come_is_named_with_what_was_there_instead() -> None:
    with pytest.raises(TimeoutError, match=r"four workers: last seen \[\] after 0\.02 s"):
        wait_until(list, 0.02, "four workers")


async def test_a_state_that_does_not_come_is_named_on_the_loop_too() -> None:
    with pytest.raises(TimeoutError, match=r"four workers: not after 0\.02 s"):
        await until(lambda: False, 0.02, "four workers")
    with pytest.raises(TimeoutError, match="four workers"):
        await eventually(lambda: False, 0.02, "four workers")
