"""The agents that tests serve; ``tests/play.py`` says what their models say. Each one's system message is its name."""

import asyncio
import gc
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import yaml
from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.base import ChatAgent, Team
from autogen_agentchat.conditions import HandoffTermination, MaxMessageTermination
from autogen_agentchat.messages import HandoffMessage, TextMessage
from autogen_agentchat.teams import DiGraphBuilder, GraphFlow, RoundRobinGroupChat, SelectorGroupChat, Swarm

from worker.agents.entry import Context


def add(a: int, b: int) -> int:
    """Adds."""
    return a + b


def broken() -> str:
    """Fails."""
    raise ValueError("as it should")


async def wait(seconds: float, note: str) -> str:
    """Waits; says in files when it has begun and when it was cancelled."""
    Path(f"{note}.begun").touch()  # noqa: ASYNC240
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        Path(note).write_text(str(time.monotonic()))  # noqa: ASYNC240
        raise
    return "waited"


def block(seconds: float) -> str:
    """Waits in a thread."""
    time.sleep(seconds)
    return "blocked"


def agent(context: Context, name: str, **fields: Any) -> AssistantAgent:
    return AssistantAgent(name, context.model("test"), system_message=name, description=name, **fields)


def solo(context: Context) -> AssistantAgent:
    return agent(context, "solo", tools=[add, broken, wait, block], max_tool_iterations=1000)


def served(context: Context) -> AssistantAgent:
    return agent(context, "solo", workbench=context.workbench("server"), max_tool_iterations=1000)


def trio(context: Context) -> RoundRobinGroupChat:
    members: list[ChatAgent | Team] = [agent(context, name) for name in ("writer", "critic", "editor")]
    return RoundRobinGroupChat(members, max_turns=context.arguments.get("turns", 3))


def chosen(context: Context) -> SelectorGroupChat:
    return SelectorGroupChat(
        [agent(context, "writer"), agent(context, "critic")],
        context.model("test"),
        selector_prompt="selector {history}",
        max_turns=3,
        allow_repeated_speaker=True,
        model_client_streaming=True,
    )


def swarm(context: Context) -> Swarm:
    desk = agent(context, "desk", handoffs=["clerk", "user"])
    clerk = agent(context, "clerk", handoffs=["desk", "user"], tools=[add])
    return Swarm([desk, clerk], termination_condition=HandoffTermination("user") | MaxMessageTermination(20))


def graph(context: Context) -> GraphFlow:
    writer, left, right, editor = [agent(context, name) for name in ("writer", "left", "right", "editor")]
    builder = DiGraphBuilder()
    for node in (writer, left, right, editor):
        builder.add_node(node)
    for branch in (left, right):
        builder.add_edge(writer, branch).add_edge(branch, editor)
    return GraphFlow([writer, left, right, editor], graph=builder.build())


def nested(context: Context) -> RoundRobinGroupChat:
    inner = RoundRobinGroupChat([agent(context, "writer"), agent(context, "critic")], name="inner", max_turns=2)
    return RoundRobinGroupChat([inner, agent(context, "editor")], max_turns=2)


async def generator(context: Context) -> AsyncIterator[Any]:
    yield "I am "
    yield "the generator"
    yield HandoffMessage(content="go on", target="other", source="generator")
    yield TextMessage(content=f"you said: {context.task}", source="other")


async def census(_: Context) -> AsyncIterator[str]:
    """What the worker holds now."""
    gc.collect()
    process = psutil.Process()
    counts = {
        "tasks": len(asyncio.all_tasks()),
        "descriptors": process.num_fds(),
        "children": len(process.children(recursive=True)),
    }
    yield json.dumps(counts)


COMPONENT = {
    "provider": "autogen_agentchat.teams.RoundRobinGroupChat",
    "component_type": "team",
    "config": {
        "participants": [
            {
                "provider": "autogen_agentchat.agents.AssistantAgent",
                "component_type": "agent",
                "config": {
                    "name": name,
                    "model_client": {
                        "provider": "autogen_ext.models.openai.OpenAIChatCompletionClient",
                        "component_type": "model",
                        "config": {"model": "gpt-4o"},
                    },
                    "system_message": name,
                    "model_client_stream": True,
                },
            }
            for name in ("writer", "critic")
        ],
        "max_turns": 2,
    },
}


def write_agents(path: Path, mcp: dict[str, Any] | None = None, **more: dict[str, Any]) -> None:
    """An ``agents.yaml`` with all of them."""
    factories = ("solo", "served", "trio", "chosen", "swarm", "graph", "nested", "generator", "census")
    entries: dict[str, Any] = {name: {"factory": f"tests.cast:{name}", "description": name} for name in factories}
    if mcp is None:
        del entries["served"]
    entries |= {
        "edited": {"factory": "tests.cast:trio", "speakers": ["editor"]},
        "endless": {"factory": "tests.cast:trio", "arguments": {"turns": 1000}},
        "studio": {"component": COMPONENT, "model": "test"},
        **more,
    }
    path.write_text(yaml.safe_dump({"agents": entries, "mcp": {"server": mcp} if mcp else {}}, sort_keys=False))
