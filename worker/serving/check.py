"""``python -m worker check``: whether models, agents and tools load, without joining the fleet."""

from collections.abc import Mapping
from pathlib import Path

from worker.serving.catalog import Model
from worker.serving.roster import load_agents


async def check(models: Mapping[str, Model], agents: Path) -> list[str]:
    """Print a line for each name that would be served; return the lines that say what is wrong.

    MCP servers are started and asked for their tools. Models are not called.
    """
    for name, model in models.items():
        print(f"model {name}: {type(model.client).__name__}")
    roster = await load_agents(agents, models)
    problems = list(roster.problems)
    for name, entry in roster.entries.items():
        print(f"agent {name}: {entry.description or 'no description'}")
    for name, server in roster.workbenches.items():
        try:
            tools = await server.list_tools()
            print(f"mcp {name}: {', '.join(tool['name'] for tool in tools) or 'no tools'}")
        except Exception as error:  # whatever keeps it from starting
            problems.append(f"{agents}: mcp.{name}: {error}")
        await server.stop()
    return problems
