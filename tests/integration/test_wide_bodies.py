"""Bodies of eight megabytes that are wide instead of long: nobody else has to wait for them, or to give them memory."""

import asyncio
import time

import pytest

from tests.harness.chat import JSON, ask, assert_complete, streaming
from tests.harness.fleet import Fleet
from tests.harness.http import Connection
from tests.schedule import Schedule, reply_text

SEED, OPENAI = "/chat/completions", "/v1/chat/completions"
BOTH = pytest.mark.parametrize("path", [SEED, OPENAI], ids=["seed", "openai"])
SIZE = 8 * 1024 * 1024
MIB = 1024 * 1024
TURN = '{"source":"user","role":"user","content":"a"}'

WIDE = {
    "messages that are numbers": ('{"messages":[', "1", "]}"),
    "messages without fields": ('{"messages":[', "{}", "]}"),
    "small messages": ('{"messages":[', TURN, "]}"),
    "parts that are numbers": ('{"messages":[{"source":"u","role":"user","content":[', "1", "]}]}"),
    "small parts": ('{"messages":[{"source":"u","role":"user","content":[', '{"type":"text","text":""}', "]}]}"),
    "messages of another role": ('{"messages":[', '{"role":"x"}', "]}"),
}


def filled(before: str, unit: str, after: str) -> bytes:
    count = (SIZE - len(before) - len(after)) // (len(unit) + 1)
    return (before + ",".join([unit] * count) + after).encode()


async def status_of(fleet: Fleet, path: str, body: bytes) -> int:
    async with Connection(fleet.address) as connection:
        return (await connection.request("POST", path, body, JSON)).status


@BOTH
@pytest.mark.parametrize("parts", WIDE.values(), ids=WIDE.keys())
async def test_a_wide_body_is_refused_before_its_end(fleet: Fleet, path: str, parts: tuple[str, str, str]) -> None:
    body = filled(*parts)
    memory = fleet.gateway.memory()
    async with Connection(fleet.address) as connection, asyncio.timeout(30):
        connection.send("POST", path, body[: SIZE // 4], JSON | {"content-length": str(len(body))})
        assert (await connection.answer()).status == 422
    assert fleet.gateway.memory() - memory < 300 * MIB
    assert_complete(await ask(fleet.address, schedule := Schedule()), schedule)


@BOTH
async def test_ten_thousand_messages_hold_nobody_up(fleet: Fleet, path: str) -> None:
    body = f'{{"messages":[{",".join([TURN] * 10_000)}]}}'.encode()
    schedule = Schedule(tokens=400, delay=0.01)
    longest = 0.0
    async with streaming(fleet.address, schedule) as stream:
        asked = asyncio.gather(*[status_of(fleet, path, body) for _ in range(2)])
        text, before = "", time.monotonic()
        while (line := await stream.line()) is not None:
            text += line["content"]
            longest, before = max(longest, time.monotonic() - before), time.monotonic()
        assert await asked == [200, 200]
    assert text == reply_text(schedule)
    assert longest < 2.5  # before a worker counts as silent
