"""Workers that serve different names of the same files, and names with fewer places than their worker."""

import asyncio
import itertools
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.harness.chat import Reply, ask, streaming
from tests.harness.fleet import Fleet, fetch, model_entries
from tests.harness.process import Process
from tests.harness.waiting import eventually
from tests.schedule import Schedule, reply_text

WRITER = """
from autogen_agentchat.agents import AssistantAgent

def agent(context):
    return AssistantAgent("writer", context.model("hidden"), system_message=None)
"""
AGENTS = {
    "writers": {"factory": "pool_writer:agent", "description": "Writes.", "concurrency": 1},
    "support": {"factory": "pool_support:agent", "description": "Helps."},
}

numbers = itertools.count()


def schedule(**fields: Any) -> Schedule:
    return Schedule(tag=f"pool-{next(numbers)}", **fields)


def write_files(fleet: Fleet) -> None:
    """The models and agents that every worker knows. What ``support`` needs is in a folder of its own."""
    written = model_entries(fleet.backend.url, "key")
    models = written["models"]
    models["hidden"] = models.pop("nowhere") | {"internal": True, "config": models["test"]["config"]}
    models["other"] |= {"description": "Another model."}
    (fleet.folder / "pools.yaml").write_text(yaml.safe_dump(written, sort_keys=False))
    (fleet.folder / "agents.yaml").write_text(yaml.safe_dump({"agents": AGENTS}, sort_keys=False))
    for folder in ("agents", "packages"):
        (fleet.folder / folder).mkdir()
    (fleet.folder / "agents" / "pool_writer.py").write_text(WRITER)
    (fleet.folder / "agents" / "pool_support.py").write_text("import only_for_support\n" + WRITER)
    (fleet.folder / "packages" / "only_for_support.py").write_text("")


def new_worker(fleet: Fleet, serve: str, packages: Path | None = None) -> Process:
    settings = {"PYTHONPATH": str(packages)} if packages else {}
    models, agents = str(fleet.folder / "pools.yaml"), str(fleet.folder / "agents.yaml")
    return fleet.new_worker(WORKER_MODELS=models, WORKER_AGENTS=agents, WORKER_SERVE=serve, **settings)


@pytest.fixture(scope="module")
def pools() -> Iterator[Fleet]:
    """One pool serves ``writers`` and ``test``, the other ``support`` and ``other``."""
    fleet = Fleet(workers=0, start=False)
    write_files(fleet)
    new_worker(fleet, "writers,test")
    new_worker(fleet, "other, support", fleet.folder / "packages")
    with fleet:
        fleet.start()
        fleet.wait_until_ready(workers=2)
        yield fleet


def answered(reply: Reply, said: Schedule) -> bool:
    return reply.status == 200 and reply.text == reply_text(said) and reply.last.get("done") is True


async def test_each_name_is_answered_by_the_pool_that_serves_it(pools: Fleet) -> None:
    for model in ("writers", "test", "support", "other"):
        said = schedule()
        assert answered(await ask(pools.address, said, model=model), said), model
    served = {frozenset(worker["models"]) for worker in pools.status()["workers"]}
    assert served == {frozenset(["writers", "test"]), frozenset(["support", "other"])}
    assert not [process for process in pools.workers if "agent not served" in process.log()]


async def test_an_internal_model_is_not_known_to_clients(pools: Fleet) -> None:
    reply = await ask(pools.address, "hello", model="hidden")
    assert (reply.status, reply.error["code"]) == (404, "unknown_model")
    assert "these are: " in reply.error["message"]
    assert "hidden" not in reply.error["message"].partition("these are: ")[2]


async def test_models_and_agents_are_listed_with_their_descriptions(pools: Fleet) -> None:
    listed = fetch(f"{pools.url}/v1/models")[1]["data"]
    assert {model["id"]: model.get("description") for model in listed} == {
        "test": None,
        "other": "Another model.",
        "writers": "Writes.",
        "support": "Helps.",
    }
    assert fetch(f"{pools.url}/v1/models/writers")[1]["description"] == "Writes."
    shown: dict[str, str] = {}
    for worker in pools.status()["workers"]:
        shown |= worker["descriptions"]
    assert shown == {"other": "Another model.", "writers": "Writes.", "support": "Helps."}


async def test_a_second_run_of_an_agent_waits_while_models_run_on(pools: Fleet) -> None:
    def waits(number: int) -> bool:
        return bool(pools.status()["queue"]["waiting"] == number)

    later = [schedule() for _ in range(3)]
    async with streaming(pools.address, schedule(tokens=100_000, delay=0.05), model="writers") as first:
        assert await first.line()
        tasks = []
        for number, said in enumerate(later, 1):
            tasks.append(asyncio.create_task(ask(pools.address, said, model="writers")))
            await eventually(partial(waits, number), 10, f"{number} wait")
        limited = [worker["limited"] for worker in pools.status()["workers"] if worker["limited"]]
        assert limited == [{"writers": {"concurrency": 1, "active": 1}}]
        for _ in range(3):
            said = schedule()
            assert answered(await ask(pools.address, said, model="test"), said)
        assert waits(len(later))
    for task, said in zip(tasks, later, strict=True):
        assert answered(await task, said)
    asked = [record["tag"] for record in pools.backend.requests() if record["tag"] in {said.tag for said in later}]
    assert asked == [said.tag for said in later]


async def test_several_gateways_never_run_more_than_the_worker_allows(pools: Fleet) -> None:
    other = pools.new_gateway()
    other.start()

    def knows_both() -> bool:
        workers = (pools.status(1) or {}).get("workers", [])
        return [worker["state"] for worker in workers] == ["READY"] * 2

    await eventually(knows_both, 30, "the second gateway knows both workers")
    pools.backend.forget()
    crowd = [schedule(tokens=5, delay=0.01) for _ in range(12)]
    addresses = itertools.cycle(pools.addresses)
    replies = await asyncio.gather(*(ask(next(addresses), said, model="writers") for said in crowd))
    assert all(answered(reply, said) for reply, said in zip(replies, crowd, strict=True))
    assert pools.backend.peak() == 1


async def test_a_name_that_is_not_public_ends_the_worker_at_its_start(pools: Fleet) -> None:
    worker = new_worker(pools, "writer")
    worker.start()
    assert await asyncio.to_thread(worker.popen.wait, 60) == 2
    told = "WORKER_SERVE: 'writer' is no public name of a model or an agent; did you mean writers?"
    assert told in worker.log()
