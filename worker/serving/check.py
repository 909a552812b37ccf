"""``python -m worker check``: whether models, agents and tools load, without joining the fleet."""

from collections.abc import Mapping

from worker.serving.catalog import Model
from worker.serving.offer import NOTHING, ServeError
from worker.serving.roster import load_agents
from worker.settings import WorkerSettings


async def check(models: Mapping[str, Model], settings: WorkerSettings) -> list[str]:
    """Print a line for each name that would be served; return the lines that say what is wrong.

    MCP servers are started and asked for their tools. Models are not called.
    """
    try:
        roster = await load_agents(settings.agents, models, settings.serve)
    except ServeError as error:
        return [f"WORKER_SERVE: {error}"]
    for name, model in models.items():
        if name in roster.models or model.internal:
            print(f"{'internal ' * model.internal}model {name}: {type(model.client).__name__}")
    problems = list(roster.problems.values())
    if not (roster.models or roster.entries):
        problems.append(f"WORKER_MODELS: {NOTHING}")
    for name, entry in roster.entries.items():
        print(f"agent {name}: {entry.description or 'no description'}")
    for name, server in roster.workbenches.items():
        try:
            tools = await server.list_tools()
            print(f"mcp {name}: {', '.join(tool['name'] for tool in tools) or 'no tools'}")
        except Exception as error:  # whatever keeps it from starting
            problems.append(f"{settings.agents}: mcp.{name}: {error}")
        await server.stop()
    return problems
