"""Tools that are plain functions and stuck: they hold up their own runs only."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.harness.chat import ask, streaming
from tests.harness.fleet import Fleet, model_entries
from tests.harness.waiting import until
from tests.schedule import Schedule, reply_text

STUCK = """
import time
from pathlib import Path

from autogen_agentchat.agents import AssistantAgent


def wait(mark: str) -> str:
    Path(mark).touch()
    time.sleep(300)
    return ""


def build(context):
    return AssistantAgent("stuck", context.model("test"), tools=[wait])
"""


@pytest.fixture
def stuck(tmp_path: Path) -> Iterator[Fleet]:
    (tmp_path / "agents").mkdir()
    (tmp_path / "agents" / "stuck_tools.py").write_text(STUCK)
    (tmp_path / "agents.yaml").write_text("agents: {stuck: {factory: 'stuck_tools:build'}}")
    with Fleet(workers=0, start=False) as fleet:
        fleet.backend.start()
        # By its name: names are resolved in threads.
        entries = model_entries(fleet.backend.url.replace("127.0.0.1", "localhost"), "key")
        (tmp_path / "models.yaml").write_text(yaml.safe_dump(entries, sort_keys=False))
        fleet.new_worker(
            WORKER_MODELS=str(tmp_path / "models.yaml"),
            WORKER_AGENTS=str(tmp_path / "agents.yaml"),
            WORKER_TOOL_THREADS="1",
            WORKER_DRAIN_TIMEOUT="0.5",
        )
        for process in (fleet.host, fleet.gateway, *fleet.workers):
            process.start()
        fleet.wait_until_ready(workers=1)
        yield fleet


async def test_a_stuck_tool_delays_no_other_chat_no_new_link_and_no_end(stuck: Fleet, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    call = {"id": "c1", "name": "wait", "arguments": json.dumps({"mark": str(mark)})}
    async with streaming(stuck.address, Schedule(tool_calls=[call]), model="stuck") as stream:
        rest = asyncio.create_task(stream.rest())
        await until(mark.exists, 30, "the tool runs")
        schedule = Schedule()
        assert (await ask(stuck.address, schedule, model="test")).text == reply_text(schedule)
        assert not rest.done(), "the tool is not stuck"
        written = stuck.workers[0].log_size()
        stuck.host.restart()
        await until(lambda: "joined" in stuck.workers[0].log(written), 60, "the worker is back")
        assert stuck.workers[0].stop() == 0
        assert "error" in (await rest)[-1]
