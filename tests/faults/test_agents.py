"""Agents that are left, whose tools or MCP servers die, and whose workers are killed."""

import asyncio
import json
import os
import secrets
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.cast import write_agents
from tests.faults.standing import LONG, member_id, settle
from tests.harness.chat import Line, Reply, Stream, ask, streaming
from tests.harness.fleet import Fleet
from tests.harness.waiting import SOON, eventually
from tests.play import Play
from tests.schedule import Schedule, reply_text

Say = Callable[[str], None]

CANCELS = 1000 if LONG else 200
AT_ONCE = 20
GENEROUS = 1.5
"""Seconds; 0.25 is what an idle machine must show, and after 2 s the rest of a run is dropped."""
KILLS = 20 if LONG else 4
SERVER = Path(__file__).parents[1] / "unit/worker/agents/mcp_server.py"
MCP = {"command": sys.executable, "args": [str(SERVER)], "start_timeout": 60.0}


@pytest.fixture(scope="module")
def standing() -> Iterator[Fleet]:
    made = Fleet(workers=0, start=False)
    write_agents(made.folder / "agents.yaml", mcp=MCP)
    made.new_worker(WORKER_AGENTS=str(made.folder / "agents.yaml"))
    with made:
        made.start()
        made.wait_until_ready(1)
        yield made


@pytest.fixture
def fleet(standing: Fleet) -> Fleet:
    """One worker, so that what it holds can be counted."""
    settle(standing.is_idle, "nothing runs")
    return standing


def play(speaker: str, *said: Schedule) -> Play:
    return Play(parts={speaker: said})


def call(name: str, **arguments: Any) -> Schedule:
    made = {"id": secrets.token_hex(4), "name": name, "arguments": json.dumps(arguments)}
    return Schedule(tool_calls=[made], seed=0)


async def until_line(stream: Stream, is_it: Callable[[Line], object]) -> Line:
    while (line := await stream.line()) is not None:
        if is_it(line):
            return line
    raise AssertionError("the stream has ended")


async def census(fleet: Fleet) -> dict[str, int]:
    """What the worker holds, beside this run."""
    counts: dict[str, int] = json.loads((await ask(fleet.address, "?", model="census")).text)
    return counts


async def census_within(fleet: Fleet, most: dict[str, int]) -> dict[str, int]:
    """What it holds, as soon as that is no more than ``most``: what a run has left may end a moment after the run."""
    deadline = time.monotonic() + SOON
    while True:
        counts = await census(fleet)
        if all(counts[name] <= limit for name, limit in most.items()):
            return counts
        assert time.monotonic() < deadline, f"{counts} instead of {most}"
        await asyncio.sleep(0.1)


async def use_server(fleet: Fleet) -> Reply:
    """A run that asks the MCP server for its process id."""
    said = play("solo", call("pid"), Schedule(text="done", seed=0))
    reply = await ask(fleet.address, said.message(), model="served")
    assert reply.text == "done"
    return reply


def result_of(reply: Reply) -> Line:
    (result,) = [line["tool_result"] for line in reply.lines if "tool_result" in line]
    found: Line = result
    return found


async def working_server(fleet: Fleet, within: float = 60.0) -> int:
    """The process id of the MCP server, as soon as a run can use it."""
    deadline = time.monotonic() + within
    while (result := result_of(await use_server(fleet)))["is_error"]:
        assert time.monotonic() < deadline, result
        await asyncio.sleep(0.05)
    return int(result["content"])


# ------------------------------------------------------------ cancelling


class Leaving:
    """Clients that leave while a run does what their kind says; each notes how long it went on."""

    def __init__(self, fleet: Fleet, notes: Path) -> None:
        self._fleet = fleet
        self._notes = notes
        self.stopped: dict[str, list[float]] = {}

    async def leave(self, kind: str) -> None:
        left, tag, note = await getattr(self, kind)()
        if note is not None:
            written = await eventually(lambda: note.exists() and note.read_text(), SOON, "the tool has been cancelled")
            self._note(kind, float(written) - left)
        elif kind == "model":
            closed = await eventually(lambda: self._fleet.backend.request(tag)["closed"], SOON, "the model is left")
            self._note(kind, closed - left)

    def _note(self, kind: str, seconds: float) -> None:
        self.stopped.setdefault(kind, []).append(seconds)

    async def model(self) -> tuple[float, str, None]:
        asked = play("solo", Schedule(hang_after=2))
        async with streaming(self._fleet.address, asked.message(), model="solo") as stream:
            await until_line(stream, lambda line: line["content"])
            left = time.monotonic()
        return left, asked.tag, None

    async def sync_tool(self) -> tuple[float, str, None]:
        return await self._tool("solo", call("block", seconds=0.2))

    async def async_tool(self) -> tuple[float, str, Path]:
        note = self._notes / secrets.token_hex(8)
        asked = play("solo", call("wait", seconds=600, note=str(note)), Schedule(text="never"))
        async with streaming(self._fleet.address, asked.message(), model="solo") as stream:
            await until_line(stream, lambda line: "tool_call" in line)
            await eventually(Path(f"{note}.begun").exists, SOON, "the tool runs")
            left = time.monotonic()
        return left, asked.tag, note

    async def mcp(self) -> tuple[float, str, None]:
        return await self._tool("served", call("sleep", seconds=600))

    async def between(self) -> tuple[float, str, None]:
        """Anywhere in a team that would take a thousand turns."""
        parts = {name: [Schedule(tokens=2, seed=0)] for name in ("writer", "critic", "editor")}
        asked = Play(parts=parts)
        async with streaming(self._fleet.address, asked.message(), model="endless") as stream:
            for _ in range(secrets.randbelow(30)):
                await stream.line()
            left = time.monotonic()
        return left, asked.tag, None

    async def _tool(self, model: str, called: Schedule) -> tuple[float, str, None]:
        asked = play("solo", called, Schedule(text="never"))
        async with streaming(self._fleet.address, asked.message(), model=model) as stream:
            await until_line(stream, lambda line: "tool_call" in line)
            left = time.monotonic()
        return left, asked.tag, None


KINDS = ("model", "sync_tool", "async_tool", "mcp", "between")


@pytest.mark.timeout(600)
async def test_cancels_leave_nothing_behind(fleet: Fleet, tmp_path: Path, figures: Say) -> None:
    server = await working_server(fleet)
    leaving = Leaving(fleet, tmp_path)
    for kind in KINDS:  # so that what is made once is there
        await leaving.leave(kind)
    await eventually(fleet.is_idle, SOON, "nothing runs")
    leaving.stopped.clear()
    before = await census(fleet)
    turns = asyncio.Semaphore(AT_ONCE)

    async def one(kind: str) -> None:
        async with turns:
            await leaving.leave(kind)

    async with asyncio.TaskGroup() as group:
        for number in range(CANCELS):
            group.create_task(one(KINDS[number % len(KINDS)]))
    await eventually(fleet.is_idle, SOON, "every slot is free")
    # Idle connections to the model stay open for the next run: one for each of those that were used at once.
    after = await census_within(fleet, before | {"descriptors": before["descriptors"] + AT_ONCE})
    await eventually(lambda: fleet.backend.active() == 0, SOON, "no model is asked")
    asked = len(fleet.backend.requests())
    for kind, times in leaving.stopped.items():
        ordered = sorted(times)
        figures(
            f"{kind}: stopped after {1000 * ordered[len(ordered) // 2]:.0f} ms, {1000 * ordered[-1]:.0f} ms at most"
        )
        assert ordered[len(ordered) // 2] < GENEROUS, kind
    figures(f"before {before}, after {after}")
    assert after["children"] == before["children"] == 1
    assert len(fleet.backend.requests()) == asked, "somebody went on asking"
    assert await working_server(fleet) == server


# ------------------------------------------------------------ MCP servers


async def test_an_mcp_server_killed_in_a_call_is_an_error_result_and_comes_back(fleet: Fleet, figures: Say) -> None:
    server = await working_server(fleet)
    asked = play("solo", call("sleep", seconds=600), Schedule(text="sorry", seed=0))
    async with streaming(fleet.address, asked.message(), model="served") as stream:
        await until_line(stream, lambda line: "tool_call" in line)
        os.kill(server, signal.SIGKILL)
        killed = time.monotonic()
        result = (await until_line(stream, lambda line: "tool_result" in line))["tool_result"]
        told = time.monotonic()
        lines = await stream.rest()
    assert result["is_error"]
    assert "".join(line["content"] for line in lines) == "sorry"
    assert lines[-1]["done"] is True
    assert await working_server(fleet) != server
    figures(f"told after {told - killed:.2f} s, works again after {time.monotonic() - killed:.2f} s")


@pytest.mark.timeout(300)
async def test_an_mcp_server_killed_again_and_again_leaves_nothing(fleet: Fleet, figures: Say) -> None:
    await working_server(fleet)
    before = await census(fleet)
    longest = 0.0
    for _ in range(KILLS):
        killed, server = time.monotonic(), await working_server(fleet)
        os.kill(server, signal.SIGKILL)
        await eventually(lambda dead=server: not psutil.pid_exists(dead), SOON, "the server is reaped")  # type: ignore[misc]
        assert await working_server(fleet) != server
        longest = max(longest, time.monotonic() - killed)
    after = await census_within(fleet, before | {"descriptors": before["descriptors"] + 2})
    figures(f"{KILLS} kills: works again within {longest:.2f} s; before {before}, after {after}")
    assert after["children"] == before["children"] == 1


# ------------------------------------------------------------ workers


def busy(fleet: Fleet) -> str | None:
    """The id of the worker that runs something."""
    return next((worker["id"] for worker in fleet.status()["workers"] if worker["active"]), None)


@pytest.fixture
def pair(standing: Fleet) -> Fleet:
    """Two workers, of which a test may kill one."""
    while len(standing.workers) < 2:
        standing.new_worker(WORKER_AGENTS=str(standing.folder / "agents.yaml"))
    for worker in standing.workers:
        if not worker.is_alive:
            worker.start()
    settle(lambda: len(standing.ready_workers()) == 2 and standing.is_idle(), "both workers are there")
    return standing


async def kill_who_runs(fleet: Fleet) -> None:
    """Kill the worker that runs the one run there is."""
    runs = await eventually(lambda: busy(fleet), SOON, "a worker runs it")
    next(worker for worker in fleet.workers if member_id(worker) == runs).kill()


async def test_a_worker_killed_before_a_runs_first_event_costs_nothing(pair: Fleet) -> None:
    said = Schedule(tokens=5, seed=1)
    pair.backend.process.freeze()  # so that no token can come before the kill
    running = asyncio.create_task(ask(pair.address, play("solo", said).message(), model="solo"))
    await kill_who_runs(pair)
    pair.backend.process.thaw()
    reply = await running
    assert reply.text == reply_text(said)
    assert reply.last["done"] is True


async def test_a_worker_killed_after_it_ends_the_run_in_one_error(pair: Fleet) -> None:
    asked = play("solo", call("add", a=1, b=2), Schedule(hang=True))
    async with streaming(pair.address, asked.message(), model="solo") as stream:
        await until_line(stream, lambda line: "tool_result" in line)
        await kill_who_runs(pair)
        lines = await stream.rest()
    assert [line["error"]["code"] for line in lines if "error" in line] == ["worker_lost"]
    assert lines[-1]["error"]["retryable"] is True


# ------------------------------------------------------------ entries

BROKEN = {
    "syntax": ({"factory": "wrong_syntax:build"}, "wrong_syntax.py line 2"),
    "package": ({"factory": "wrong_package:build"}, "No module named 'no_such_package'"),
    "unknown": ({"factory": "wrong_model:build"}, "models.yaml has no model 'nope'"),
    "component": ({"component": "missing.json"}, "missing.json cannot be read"),
    "test": ({"factory": "tests.cast:solo"}, "a model of models.yaml has this name"),
}
CODE = {
    "wrong_syntax": "def build(context):\n    return (\n",
    "wrong_package": "import no_such_package\n",
    "wrong_model": "def build(context):\n    return context.model('nope')\n",
}


async def test_a_broken_entry_is_one_line_and_leaves_the_others_served() -> None:
    fleet = Fleet(workers=0, start=False)
    write_agents(fleet.folder / "agents.yaml", **{name: entry for name, (entry, _) in BROKEN.items()})
    twice = "  twice: {factory: 'tests.cast:solo'}\n"
    text = (fleet.folder / "agents.yaml").read_text()
    (fleet.folder / "agents.yaml").write_text(text.replace("agents:\n", f"agents:\n{twice}{twice}"))
    (fleet.folder / "agents").mkdir()
    for name, code in CODE.items():
        (fleet.folder / "agents" / f"{name}.py").write_text(code)
    fleet.new_worker(WORKER_AGENTS=str(fleet.folder / "agents.yaml"))
    with fleet:
        fleet.start()
        fleet.wait_until_ready(1)
        lines = [line for line in fleet.workers[0].log().splitlines() if "agent not served" in line]
        told = {name: told for name, (_, told) in BROKEN.items()} | {"twice": "is there twice"}
        for name, reason in told.items():
            (line,) = [line for line in lines if f"agents.{name}" in line]
            assert reason in line
        assert len(lines) == len(told)
        served = set(fleet.ready_workers()[0]["models"])
        assert {"solo", "trio", "studio", "test"} <= served
        assert not {*told} - {"test"} & served
        asked = play("solo", Schedule(text="hello"))
        assert (await ask(fleet.address, asked.message(), model="solo")).text == "hello"
