"""One try at a request: the time that each of its phases may take, on a clock of the test's own."""

import asyncio

import pytest

from fleet.lane import Inbox
from gateway.chats.attempt import Attempt
from gateway.errors import GatewayError, WorkerLost
from gateway.settings import GatewaySettings
from tests.harness.virtual import virtual

SETTINGS = GatewaySettings(accept_timeout=20, first_token_timeout=3, token_timeout=2)


def attempt(settings: GatewaySettings = SETTINGS, *, excuses: list[bool] | None = None) -> Attempt:
    """``excuses`` is whether the next silences are excused; none is by default."""
    left = excuses or []
    clock = asyncio.get_running_loop().time
    incoming = Inbox("g", lambda *_: None).open("w", "r", 1)
    return Attempt(1, "w", incoming, settings, lambda _: left.pop(0) if left else False, clock)


async def end_of(made: Attempt) -> tuple[str, float]:
    """The code of its end, and when that came."""
    error = await made.outcome
    assert isinstance(error, GatewayError)
    made.close()
    return error.code, round(asyncio.get_running_loop().time(), 2)


@virtual
async def test_a_worker_that_does_not_accept_has_its_time() -> None:
    assert await end_of(attempt()) == ("not_accepted", 20)


@virtual
async def test_the_first_token_is_waited_for_from_the_acceptance_on() -> None:
    """Not until the time to accept would have been over, which is longer here."""
    made = attempt()
    await asyncio.sleep(1)
    made.hear()
    made.accept()
    assert await end_of(made) == ("first_token_timeout", 4)


@virtual
async def test_the_next_token_is_waited_for_from_the_last_one_on() -> None:
    made = attempt(GatewaySettings(accept_timeout=20, first_token_timeout=120, token_timeout=2))
    made.accept()
    await asyncio.sleep(10)
    made.hear()
    made.start()
    for _ in range(5):
        await asyncio.sleep(1.5)
        made.hear()
    assert await end_of(made) == ("token_timeout", 19.5)


@virtual
async def test_a_first_token_without_an_acceptance_is_one() -> None:
    made = attempt()
    made.start()
    assert made.accepted
    assert await end_of(made) == ("token_timeout", 2)


@virtual
async def test_longer_limits_than_those_before_are_kept_too() -> None:
    made = attempt(GatewaySettings(accept_timeout=1, first_token_timeout=100, token_timeout=50))
    made.accept()
    await asyncio.sleep(99)
    assert not made.outcome.done()
    made.hear()
    made.start()
    assert await end_of(made) == ("token_timeout", 149)


@virtual
async def test_an_excused_silence_counts_from_its_end() -> None:
    made = attempt(excuses=[True, True])
    made.start()
    await asyncio.sleep(5)  # it was excused at 2 and at 4
    made.hear()  # the client has caught up
    assert await end_of(made) == ("token_timeout", 7)


@virtual
async def test_only_the_first_end_counts() -> None:
    made = attempt()
    made.end()
    made.end(WorkerLost("worker_lost", "gone"))
    await asyncio.sleep(100)
    assert await made.outcome is None
    made.close()


@virtual
async def test_one_that_is_closed_has_no_timer() -> None:
    made = attempt()
    made.accept()
    made.close()
    await asyncio.sleep(1000)
    assert not made.outcome.done()


@virtual
async def test_tokens_move_no_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    made = attempt()
    made.start()
    armed = 0

    def count(*_: object) -> None:
        nonlocal armed
        armed += 1

    monkeypatch.setattr(asyncio.get_running_loop(), "call_later", count)
    for _ in range(1000):
        made.hear()
        made.start()
    assert armed == 0
    made.close()


@virtual
async def test_positions_count_from_one_without_gaps() -> None:
    made = attempt()
    assert [made.is_next(position) for position in (1, 2, 2, 1, 3)] == [True, True, False, False, True]
    with pytest.raises(WorkerLost) as raised:
        made.is_next(5)
    assert (raised.value.code, raised.value.retryable) == ("lane_broken", True)
    made.close()


@virtual
async def test_events_without_a_position_are_all_new() -> None:
    made = attempt()
    assert [made.is_next(0) for _ in range(3)] == [True, True, True]
    made.close()
