"""A team of two, built anew for each request."""

from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.teams import RoundRobinGroupChat

from worker.agents.entry import Context


def team(context: Context) -> RoundRobinGroupChat:
    model = context.model(context.arguments["model"])
    writer = AssistantAgent("writer", model, system_message="Write three sentences about what the user names.")
    editor = AssistantAgent("editor", model, system_message="Say the same in one sentence.")
    return RoundRobinGroupChat([writer, editor], max_turns=2)
