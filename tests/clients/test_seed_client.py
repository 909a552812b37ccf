"""The clients of the original sample work unchanged: they take every HTTP chunk for one whole JSON object."""

import asyncio
import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.chat import one_line
from tests.harness.fleet import Fleet
from tests.harness.process import REPOSITORY
from tests.schedule import Schedule, reply_text

SCRIPT = Path(__file__).with_name("seed_client.py")
PYTHON = [sys.executable, str(SCRIPT)]
SLOW_PYTHON = [sys.executable, "-m", "tests.clients.slow_reader", "0.01", str(SCRIPT)]
LAST_TURN = "Say hello by my name and introduce yourself."
SCHEDULES = {
    "as it comes": Schedule(tokens=100, delay=0.01),
    "flat out": Schedule(tokens=8_000),
    "flat out, large tokens": Schedule(tokens=400, size=4000),
}


@pytest.fixture
def plain(fleet: Fleet) -> Iterator[Fleet]:
    """The shared fleet; what its backend says to plain messages is restored after the test."""
    yield fleet
    fleet.backend.say(None)


async def run(*command: str) -> str:
    """What a command prints to standard output."""
    environment = os.environ | {"PYTHONIOENCODING": "utf-8", "NO_PROXY": "*"}
    process = await asyncio.create_subprocess_exec(
        *command, cwd=REPOSITORY, env=environment, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0
    return output.decode()


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())
@pytest.mark.parametrize("command", [PYTHON, SLOW_PYTHON], ids=["quick reader", "slow reader"])
async def test_the_python_example_prints_the_whole_reply(plain: Fleet, schedule: Schedule, command: list[str]) -> None:
    plain.backend.say(schedule)
    assert await run(*command, f"{plain.url}/chat/completions") == reply_text(schedule)


async def test_several_python_examples_at_once(plain: Fleet) -> None:
    schedule = Schedule(tokens=2_000)
    plain.backend.say(schedule)
    outputs = await asyncio.gather(*[run(*PYTHON, f"{plain.url}/chat/completions") for _ in range(4)])
    assert outputs == [reply_text(schedule)] * 4


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not there")
async def test_the_curl_example_streams_lines(fleet: Fleet) -> None:
    body = {
        "messages": [
            {"source": "user", "content": "Hello, I'm Tory."},
            {"source": "assistant", "content": "Hello Tory, nice to meet you!"},
            {"source": "user", "content": LAST_TURN},
        ]
    }
    output = await run(
        *("curl", "-sS", "-N", "-X", "POST", f"{fleet.url}/chat/completions"),
        *("-H", "Content-Type: application/json", "-d", json.dumps(body)),
    )
    lines = [one_line(line) for line in output.encode().splitlines(keepends=True)]
    assert "".join(line["content"] for line in lines) == f"You said: {LAST_TURN}"
    assert lines[-1]["done"] is True
