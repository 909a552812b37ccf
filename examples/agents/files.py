"""An agent with the tools of an MCP server."""

from autogen_agentchat.agents import AssistantAgent

from worker.agents.entry import Context


def build(context: Context) -> AssistantAgent:
    model = context.model(context.arguments["model"])
    return AssistantAgent(
        "files",
        model,
        workbench=context.workbench("folder"),
        max_tool_iterations=8,
        system_message="Answer from the files.",
    )
