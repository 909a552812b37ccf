"""A client that leaves frees everything at once, down to the model's socket."""

import asyncio
import secrets
import time
from collections.abc import Callable

import pytest

from tests.harness.chat import JSON, PATH, body_of, streaming
from tests.harness.fleet import Fleet
from tests.harness.http import Connection
from tests.harness.waiting import eventually
from tests.schedule import Schedule

GENEROUS = 8.0
"""Seconds; 0.25 is what an idle machine must show, and a minute what it takes without the notice. On a busy one each of
four processes may stand still for more than one."""
Say = Callable[[str], None]


def tag() -> str:
    return f"cancel-{secrets.token_hex(8)}"


async def backend_saw_it_leave(fleet: Fleet, name: str, left: float, say: Say) -> None:
    """The model's connection was closed soon after ``left``, and no worker is busy with it."""
    closed = await eventually(lambda: fleet.backend.request(name)["closed"], what="the model's connection is closed")
    say(f"closed after {1000 * (closed - left):.0f} ms")
    assert closed - left < GENEROUS
    await eventually(fleet.is_idle, what="no worker is busy")


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("abrupt", [False, True], ids=["closed", "reset"])
async def test_leaving_before_the_first_token(fleet: Fleet, figures: Say, stream: bool, abrupt: bool) -> None:
    schedule = Schedule(tag=tag(), first_delay=60)
    name = schedule.tag or ""
    async with Connection(fleet.address) as connection:
        connection.send("POST", PATH, body_of(schedule, stream=stream), JSON)
        await eventually(lambda: fleet.backend.requests(name))
        if abrupt:
            connection.reset()
        left = time.monotonic()
    await backend_saw_it_leave(fleet, name, left, figures)


@pytest.mark.parametrize("abrupt", [False, True], ids=["closed", "reset"])
async def test_leaving_while_tokens_arrive(fleet: Fleet, figures: Say, abrupt: bool) -> None:
    schedule = Schedule(tag=tag(), tokens=100_000, delay=0.005)
    async with streaming(fleet.address, schedule) as stream:
        for _ in range(10):
            assert await stream.line()
        if abrupt:
            stream.reset()
        left = time.monotonic()
    await backend_saw_it_leave(fleet, schedule.tag or "", left, figures)


async def test_leaving_between_two_tokens(fleet: Fleet, figures: Say) -> None:
    schedule = Schedule(tag=tag(), hang_after=3)
    async with streaming(fleet.address, schedule) as stream:
        assert await stream.line()
        left = time.monotonic()
    await backend_saw_it_leave(fleet, schedule.tag or "", left, figures)


async def test_leaving_with_text_unread(fleet: Fleet, figures: Say) -> None:
    schedule = Schedule(tag=tag(), tokens=2_000_000)
    async with Connection(fleet.address, limit=1024, receive_buffer=4096) as connection:
        connection.send("POST", PATH, body_of(schedule), JSON)
        await connection.answer()
        left = time.monotonic()
    await backend_saw_it_leave(fleet, schedule.tag or "", left, figures)


async def test_leaving_half_way_through_a_whole_answer(fleet: Fleet, figures: Say) -> None:
    schedule = Schedule(tag=tag(), tokens=10_000, delay=0.01)
    name = schedule.tag or ""
    async with Connection(fleet.address) as connection:
        connection.send("POST", PATH, body_of(schedule, stream=False), JSON)
        await eventually(lambda: [record for record in fleet.backend.requests(name) if record["first_token"]])
        left = time.monotonic()
    await backend_saw_it_leave(fleet, name, left, figures)


async def test_a_hundred_clients_that_leave_together(fleet: Fleet, figures: Say) -> None:
    name = tag()
    schedules = [Schedule(tag=name, first_delay=60 * (number % 2), hang_after=1) for number in range(100)]
    connections = [Connection(fleet.address) for _ in schedules]
    for connection, schedule in zip(connections, schedules, strict=True):
        await connection.__aenter__()
        connection.send("POST", PATH, body_of(schedule), JSON)
    await eventually(lambda: len(fleet.backend.requests(name)) == 100)
    left = time.monotonic()
    await asyncio.gather(*[connection.__aexit__() for connection in connections])
    await eventually(lambda: all(record["closed"] for record in fleet.backend.requests(name)))
    closed = sorted(record["closed"] - left for record in fleet.backend.requests(name))
    figures(f"closed after {1000 * closed[50]:.0f} ms (median), {1000 * closed[-1]:.0f} ms (last)")
    assert closed[-1] < 2 * GENEROUS
    await eventually(fleet.is_idle)
