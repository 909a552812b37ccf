"""The workers' files change while a hundred clients ask without a pause."""

import asyncio
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.faults.crowd import CROWD, Client, Say, constant_load, crowd, schedules
from tests.faults.standing import PATIENCE
from tests.harness.fleet import Fleet, model_entries
from tests.harness.waiting import eventually
from tests.schedule import Schedule

AGENT = """
from autogen_agentchat.agents import AssistantAgent

def agent(context):
    return AssistantAgent("a", context.model("other"), system_message="{word}")
"""

FEW = 30
"""Clients while a worker starts."""

numbers = itertools.count()


def question() -> Schedule:
    return Schedule(tag=f"load-{next(numbers)}", tokens=10, delay=0.1)


class Files:
    """The files of all workers, as an editor writes them: by a new file in the old one's place."""

    def __init__(self, fleet: Fleet) -> None:
        self.entries: dict[str, Any] = model_entries(fleet.backend.url, "key-0")["models"]
        self.fleet = fleet
        (fleet.folder / "agents").mkdir()
        self.write("agents/faults_reload.py", AGENT.format(word="first"))
        self.write("agents.yaml", yaml.safe_dump({"agents": {"agent": {"factory": "faults_reload:agent"}}}))
        self.save()

    @property
    def paths(self) -> tuple[Path, Path]:
        return self.fleet.folder / "models.yaml", self.fleet.folder / "agents.yaml"

    def use_key(self, name: str, key: str) -> None:
        entry = self.entries[name]
        self.entries[name] = entry | {"config": entry["config"] | {"api_key": key}}

    def save(self) -> None:
        self.write("models.yaml", yaml.safe_dump({"models": self.entries}, sort_keys=False))

    def write(self, name: str, text: str) -> None:
        new = self.fleet.folder / "new"
        new.write_text(text)
        new.replace(self.fleet.folder / name)

    def keys(self, tags: str) -> set[str]:
        """The keys that requests with such tags came with, at the model."""
        found = [record for record in self.fleet.backend.requests() if (record["tag"] or "").startswith(tags)]
        return {record["authorization"].removeprefix("Bearer ") for record in found}


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    made = Fleet(workers=0, start=False)
    files = Files(made)
    made.new_gateway()
    for _ in range(2):
        made.new_worker(WORKER_MODELS=str(files.paths[0]), WORKER_AGENTS=str(files.paths[1]))
    made.files = files  # type: ignore[attr-defined]
    with made:
        made.start()
        made.wait_until_ready(workers=2)
        yield made


@pytest.fixture
def files(fleet: Fleet) -> Files:
    found: Files = fleet.files  # type: ignore[attr-defined]
    return found


def served(fleet: Fleet, gateway: int) -> list[set[str]]:
    return [set(worker["models"]) for worker in (fleet.status(gateway) or {}).get("workers", [])]


async def serve(fleet: Fleet, name: str, there: bool = True) -> None:
    """Until both workers, by both gateways, serve ``name``, or do not."""

    def known() -> bool:
        gateways = [served(fleet, gateway) for gateway in range(2)]
        return all(len(workers) == 2 and all((name in one) == there for one in workers) for workers in gateways)

    within = 2 * PATIENCE  # for a worker that starts while the others are under load
    await eventually(known, within, f"{name} is {'served' if there else 'gone'}")


async def change_everything(fleet: Fleet, files: Files, turn: int) -> None:
    """Another key for the model that is under load, a name that comes and goes, a broken file, other code."""
    files.use_key("test", f"key-{turn}")
    files.entries[f"extra-{turn}"] = files.entries["nowhere"]
    files.save()
    await serve(fleet, f"extra-{turn}")
    files.write("models.yaml", "models: [")
    files.write("agents/faults_reload.py", AGENT.format(word=f"turn {turn}"))
    await eventually(
        lambda: all(worker.log().count("not reloaded") >= turn for worker in fleet.workers if worker.is_alive),
        PATIENCE,
        "the broken file is reported",
    )
    del files.entries[f"extra-{turn}"]
    files.save()
    await serve(fleet, f"extra-{turn}", there=False)


@pytest.mark.timeout(300)
async def test_no_request_fails_while_the_files_change(fleet: Fleet, files: Files, figures: Say) -> None:
    fleet.expects_trouble = True  # errors about the broken file
    other = Client(fleet.address, Schedule(tag="old", tokens=400, delay=0.05), model="test")
    async with asyncio.TaskGroup() as group:
        group.create_task(other.run())
        await eventually(lambda: files.keys("old") == {"key-0"}, PATIENCE, "a stream runs by the first key")
        async with (
            constant_load(fleet.address, question, model="test") as tally,
            constant_load(fleet.addresses[1], question, clients=10, model="agent") as agents,
        ):
            for turn in range(1, 4):
                await change_everything(fleet, files, turn)
                before = tally.completed, agents.completed
                await eventually(
                    lambda before=before: tally.completed > before[0] + CROWD and agents.completed > before[1],  # type: ignore[misc]
                    PATIENCE,
                    "the load goes on",
                )
    other.assert_complete()
    assert files.keys("old") == {"key-0"}
    assert files.keys("load") >= {"key-0", "key-1", "key-2", "key-3"}
    figures(f"{tally.completed} chats, {agents.completed} of agents; {len(tally.failures + agents.failures)} failed")
    assert not tally.failures, tally.failures[:3]
    assert not agents.failures, agents.failures[:3]
    said = [record["body"]["messages"][0]["content"] for record in fleet.backend.requests() if "load" in record["tag"]]
    assert "turn 3" in said, "agents' new code runs"
    for worker in fleet.workers:
        assert worker.log().count("not reloaded") == 3, "once for each broken file"
    async with crowd(fleet.address, schedules("later", 4)) as last:
        pass
    last.assert_complete()
    assert files.keys("later") == {"key-3"}


@pytest.mark.timeout(300)
async def test_a_worker_killed_while_the_files_change_costs_only_its_own_streams(
    fleet: Fleet, files: Files, figures: Say
) -> None:
    fleet.expects_trouble = True
    async with constant_load(fleet.address, question, clients=FEW, model="test") as tally:
        await eventually(lambda: tally.completed > FEW, PATIENCE, "the load runs")
        files.use_key("test", "key-1")
        files.entries["extra"] = files.entries["nowhere"]
        files.save()
        fleet.workers[0].kill()
        fleet.workers[0].start()
        await serve(fleet, "extra")
        before = tally.completed
        await eventually(lambda: tally.completed > before + FEW, PATIENCE, "the load goes on")
    figures(f"{tally.completed} requests, {len(tally.failures)} of the worker that was killed")
    assert len(tally.failures) <= FEW
    assert all("'code': 'worker_lost'" in failure for failure in tally.failures), tally.failures[:3]
