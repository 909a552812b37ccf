"""An agent with a tool."""

from datetime import datetime
from zoneinfo import ZoneInfo

from autogen_agentchat.agents import AssistantAgent

from worker.agents.entry import Context


async def time_in(zone: str) -> str:
    """The time in a zone such as Europe/Paris."""
    return datetime.now(ZoneInfo(zone)).isoformat(timespec="minutes")


def build(context: Context) -> AssistantAgent:
    model = context.model(context.arguments["model"])
    return AssistantAgent("clock", model, tools=[time_in], max_tool_iterations=4, system_message="Answer briefly.")
