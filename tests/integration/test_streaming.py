"""Streams through host, gateway and two workers."""

import asyncio
import json
from collections import Counter
from typing import Any

import pytest

from tests.harness.chat import ask, assert_complete, send, streaming
from tests.harness.fleet import Fleet
from tests.harness.http import get_json
from tests.harness.waiting import eventually
from tests.schedule import Schedule, reply_text

STREAMS = 200
USAGE = {"prompt_tokens": 11, "completion_tokens": 7}


@pytest.mark.parametrize("schedule", [Schedule(tokens=100, delay=0.02), Schedule(tokens=200)], ids=["paced", "flat"])
async def test_200_streams_at_once_arrive_whole_from_workers_that_share_them(fleet: Fleet, schedule: Schedule) -> None:
    tag = f"crowd-{schedule.seed}"
    # None ends before all have been asked for: who ends earlier is given more.
    schedules = [
        Schedule(tokens=schedule.tokens, delay=schedule.delay, first_delay=3.0, tag=tag) for _ in range(STREAMS)
    ]
    replies = await asyncio.gather(*[ask(fleet.address, schedule) for schedule in schedules])
    for reply, asked in zip(replies, schedules, strict=True):
        assert_complete(reply, asked)
    shares = Counter(record["authorization"] for record in fleet.backend.requests(tag))
    assert len(shares) == 2
    assert all(0.4 * STREAMS <= share <= 0.6 * STREAMS for share in shares.values()), shares


async def test_text_arrives_as_it_is_spoken(fleet: Fleet) -> None:
    schedule = Schedule(tokens=5, delay=60)
    async with streaming(fleet.address, schedule) as stream:
        line = await asyncio.wait_for(stream.line(), 10)
    assert line is not None
    assert line["content"] == reply_text(schedule)[: len(line["content"])] != ""


async def test_tokens_of_a_slow_model_arrive_one_by_one(fleet: Fleet) -> None:
    schedule = Schedule(tokens=30, delay=0.1)
    reply = await ask(fleet.address, schedule)
    assert_complete(reply, schedule)
    assert len(reply.lines) >= 8


async def test_text_that_piles_up_is_merged_into_one_line(fleet: Fleet) -> None:
    schedule = Schedule(tokens=5_000)
    reply = await ask(fleet.address, schedule)
    assert_complete(reply, schedule)
    assert len(reply.lines) < 2_500


async def test_the_last_line_says_how_it_ended(fleet: Fleet) -> None:
    reply = await ask(fleet.address, Schedule(finish_reason="length", usage=USAGE))
    assert reply.last.pop("usage").items() >= USAGE.items()
    assert reply.last == {"content": "", "done": True, "finish_reason": "length"}


async def test_an_empty_reply_still_ends(fleet: Fleet) -> None:
    schedule = Schedule(tokens=0)
    assert_complete(await ask(fleet.address, schedule), schedule)


async def test_without_stream_the_same_fields_come_as_one_object(fleet: Fleet) -> None:
    schedule = Schedule(tokens=1000, usage=USAGE)
    reply = await ask(fleet.address, schedule, stream=False)
    assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
    assert reply.last.pop("usage").items() >= USAGE.items()
    assert reply.lines == [{"content": reply_text(schedule), "done": True, "finish_reason": "stop"}]


async def test_a_request_that_does_not_say_so_is_streamed(fleet: Fleet) -> None:
    schedule = Schedule()
    body = json.dumps({"messages": [{"source": "user", "content": schedule.message()}]})
    assert_complete(await send(fleet.address, body.encode()), schedule)


async def test_every_answer_carries_a_request_id_of_its_own(fleet: Fleet) -> None:
    replies = await asyncio.gather(*[ask(fleet.address, Schedule()) for _ in range(10)])
    assert len({reply.headers["x-request-id"] for reply in replies}) == 10


async def test_the_model_is_chosen_by_its_public_name(fleet: Fleet) -> None:
    for name in ("test", "other"):
        schedule = Schedule(tag=f"model-{name}")
        assert_complete(await ask(fleet.address, schedule, model=name), schedule)
        assert fleet.backend.request(f"model-{name}")["body"]["model"] == name


async def test_it_says_that_it_lives(fleet: Fleet) -> None:
    status, _ = await get_json(fleet.address, "/healthz")
    assert status == 200


async def test_the_fleet_shows_its_workers(fleet: Fleet) -> None:
    def both_ready() -> Any:
        """What it shows at a moment when both were heard lately."""
        status = fleet.status()
        return status if [worker["state"] for worker in status["workers"]] == ["READY"] * 2 else None

    status = await eventually(both_ready)
    assert {"gateway", "queue"} <= status.keys()
    workers, load = status["workers"], status["load"]
    assert len({worker["id"] for worker in workers}) == 2
    for worker in workers:
        assert worker["models"] == ["test", "other", "nowhere"]
        assert worker["capacity"] > 0
    assert load["capacity"] == sum(worker["capacity"] for worker in workers)
    assert load["ratio"] == round((load["active"] + load["waiting"]) / load["capacity"], 4)
