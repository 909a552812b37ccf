"""The agents of ``examples``: they load, and do what their comments say, with a scripted model."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from autogen_core.tools import Workbench

from fleet.process.turns import Turns
from protos import chat_pb2 as pb
from tests.harness.process import REPOSITORY
from tests.unit.worker.agents.scripted import Kept, Says, ScriptedModel, told
from worker.agents.mcp import McpServer
from worker.agents.mcp_config import McpConfig
from worker.contract.images import Images
from worker.contract.observer import Observer
from worker.services.agent import AgentService
from worker.serving.catalog import Model, load_models
from worker.serving.roster import load_agents

EXAMPLES = REPOSITORY / "examples"
FILES = {"agents.yaml": "smollm2", "tools.yaml": "m"}
"""Each file of agents, and the model that it names."""


@pytest.fixture(autouse=True)
def path(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The modules of the examples are forgotten after each test."""
    before = set(sys.modules)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield
    for name in set(sys.modules) - before:
        if str(EXAMPLES) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


async def run(file: str, name: str, *answers: Says | str, **workbenches: Workbench) -> tuple[pb.Done, Kept]:
    model = ScriptedModel(*answers)
    clients = {FILES[file]: model}
    roster = await load_agents(EXAMPLES / file, {FILES[file]: Model(FILES[file], model)}, (), {"AGENTS_MODEL": "m"})
    assert not roster.problems
    benches = {**roster.workbenches, **workbenches}
    serving = AgentService(roster.entries[name], clients, benches, Turns(), Images(100_000_000), Observer())
    return await told(serving, "a question")


def test_the_keyless_ones_name_the_model_that_every_clone_has() -> None:
    assert "smollm2" in load_models(REPOSITORY / "models.yaml", {})


async def test_the_writer_of_the_duo_is_folded_away() -> None:
    done, kept = await run("agents.yaml", "duo", "a long draft", "short")
    assert kept.told == [("reasoning", "writer", "a long draft"), ("text", "editor", "short")]
    assert done.finish_reason == "stop"


async def test_the_relay_hands_over_without_agentchat() -> None:
    _, kept = await run("agents.yaml", "relay", "good day", "it is so")
    assert kept.told == [
        ("text", "greeter", "good day"),
        ("handoff", "greeter", "expert"),
        ("text", "expert", "it is so"),
    ]


async def test_the_clock_calls_its_tool() -> None:
    _, kept = await run("tools.yaml", "clock", Says(calls=[("c1", "time_in", '{"zone": "UTC"}')]), "now")
    assert [kind for kind, _, _ in kept.told] == ["tool_call", "tool_result", "text"]
    assert kept.told[1][2].endswith("+00:00")


async def test_the_help_desk_hands_over_and_back_to_the_user() -> None:
    _, kept = await run(
        "tools.yaml",
        "support",
        Says(calls=[("c1", "transfer_to_billing", "{}")]),
        Says(calls=[("c2", "invoice", '{"number": 7}')]),
        Says(calls=[("c3", "transfer_to_user", "{}")]),
    )
    assert [(source, text) for kind, source, text in kept.told if kind == "handoff"] == [
        ("desk", "billing"),
        ("billing", "user"),
    ]
    assert ("tool_result", "billing", "invoice 7 is paid") in kept.told


async def test_the_tools_of_the_files_are_those_of_its_server() -> None:
    server = Path(__file__).with_name("mcp_server.py")
    folder = McpServer("folder", McpConfig(command=sys.executable, args=[str(server)]))
    try:
        _, kept = await run(
            "tools.yaml", "files", Says(calls=[("c1", "add", '{"a": 1, "b": 2}')]), "three", folder=folder
        )
    finally:
        await folder.stop()
    assert kept.told[1:] == [("tool_result", "files", "3"), ("text", "files", "three")]


async def test_the_export_of_studio_ends_as_it_says() -> None:
    done, kept = await run("tools.yaml", "travel", "day one", "a tip TERMINATE")
    assert kept.told == [("text", "planner", "day one"), ("text", "guide", "a tip TERMINATE")]
    assert done.finish_reason == "stop"
