"""A model that fails gives the right HTTP status, or the right last line: never a silent end."""

import asyncio

import pytest

from tests.harness.chat import Reply, ask, assert_complete, assert_ends_once
from tests.harness.fleet import Fleet
from tests.harness.waiting import eventually
from tests.schedule import Schedule, reply_text


async def assert_recovers(fleet: Fleet) -> None:
    """The next request succeeds, and nothing is left running."""
    schedule = Schedule()
    assert_complete(await ask(fleet.address, schedule), schedule)


def assert_cut(reply: Reply, schedule: Schedule) -> None:
    """Text that is right as far as it goes, and one error that ends it."""
    assert reply.status == 200
    assert reply.text
    assert reply_text(schedule).startswith(reply.text)
    assert_ends_once(reply)
    assert reply.error["message"]
    assert reply.last["content"] == ""


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize(("answer", "status", "retryable"), [(401, 502, False), (500, 502, True), (503, 503, True)])
async def test_a_model_that_refuses_is_no_fault_of_the_request(
    spare_fleet: Fleet, answer: int, status: int, retryable: bool, stream: bool
) -> None:
    reply = await ask(spare_fleet.address, Schedule(status=answer), stream=stream)
    assert reply.status == status
    assert reply.error["retryable"] is retryable
    assert reply.error["message"]
    await assert_recovers(spare_fleet)


async def test_a_rate_limit_is_passed_on(spare_fleet: Fleet) -> None:
    reply = await ask(spare_fleet.address, Schedule(status=429, retry_after=7))
    assert reply.status == 429
    assert reply.headers["retry-after"] == "7"
    assert reply.error["retryable"] is True
    await assert_recovers(spare_fleet)


async def test_a_rate_limit_without_a_hint_still_says_when_to_come_back(spare_fleet: Fleet) -> None:
    reply = await ask(spare_fleet.address, Schedule(status=429))
    assert reply.status == 429
    assert int(reply.headers["retry-after"]) >= 1


async def test_a_key_is_not_quoted(spare_fleet: Fleet) -> None:
    reply = await ask(spare_fleet.address, Schedule(status=401))
    assert "worker-" not in str(reply.lines)


async def test_a_model_that_nobody_serves_is_a_bad_gateway(spare_fleet: Fleet) -> None:
    reply = await ask(spare_fleet.address, Schedule(), model="nowhere")
    assert reply.status == 502
    assert reply.error["retryable"] is True
    await assert_recovers(spare_fleet)


@pytest.mark.parametrize("schedule", [Schedule(reset_after=0), Schedule(error_after=0), Schedule(end_after=0)])
async def test_a_model_that_breaks_before_the_first_token_is_a_bad_gateway(
    spare_fleet: Fleet, schedule: Schedule
) -> None:
    reply = await ask(spare_fleet.address, schedule)
    assert reply.status == 502
    assert reply.error["message"]
    await assert_recovers(spare_fleet)


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
async def test_a_model_that_never_begins_is_a_timeout(spare_fleet: Fleet, stream: bool) -> None:
    never = [Schedule(hang=True), Schedule(hang_after=0), Schedule(first_delay=60)]
    for reply in await asyncio.gather(*[ask(spare_fleet.address, schedule, stream=stream) for schedule in never]):
        assert reply.status == 504
        assert reply.error["message"]


async def test_a_model_that_falls_silent_ends_in_one_error(spare_fleet: Fleet) -> None:
    silent = [Schedule(hang_after=5, tokens=50), Schedule(hang_after=5, tokens=50, delay=0.02)]
    replies = await asyncio.gather(*[ask(spare_fleet.address, schedule) for schedule in silent])
    for reply, schedule in zip(replies, silent, strict=True):
        assert_cut(reply, schedule)
        assert reply.error["retryable"] is True
    await assert_recovers(spare_fleet)


@pytest.mark.parametrize(
    "schedule",
    [
        Schedule(reset_after=5, tokens=50),
        Schedule(reset_after=500, tokens=5000),
        Schedule(end_after=5, tokens=50),
        Schedule(error_after=5, tokens=50),
    ],
    ids=["reset", "late reset", "clean end", "error event"],
)
async def test_a_model_that_breaks_mid_stream_ends_in_one_error(spare_fleet: Fleet, schedule: Schedule) -> None:
    reply = await ask(spare_fleet.address, schedule)
    assert_cut(reply, schedule)
    assert reply.error["retryable"] is True
    await assert_recovers(spare_fleet)


async def test_a_whole_answer_that_breaks_half_way_is_an_error_and_no_half_answer(spare_fleet: Fleet) -> None:
    reply = await ask(spare_fleet.address, Schedule(reset_after=5), stream=False)
    assert reply.status == 502
    assert reply.error["message"]


async def test_a_reply_that_takes_too_long_as_a_whole_is_cut(spare_fleet: Fleet) -> None:
    schedule = Schedule(tokens=100, delay=0.2)
    reply = await ask(spare_fleet.address, schedule)
    assert_cut(reply, schedule)
    await assert_recovers(spare_fleet)


async def test_failures_leave_nothing_running(spare_fleet: Fleet) -> None:
    await eventually(spare_fleet.is_idle)
    await eventually(lambda: spare_fleet.backend.active() == 0)
