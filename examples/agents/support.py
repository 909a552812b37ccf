"""A swarm whose agents hand the conversation to each other, and to the user."""

from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.conditions import HandoffTermination, TextMentionTermination
from autogen_agentchat.teams import Swarm

from worker.agents.entry import Context


def invoice(number: int) -> str:
    """The state of an invoice."""
    return f"invoice {number} is {'paid' if number % 2 else 'open'}"


def team(context: Context) -> Swarm:
    model = context.model(context.arguments["model"])
    desk = AssistantAgent(
        "desk",
        model,
        handoffs=["billing", "user"],
        system_message="Hand questions about invoices to billing, and to the user what you need to know. "
        "Say DONE when the user has an answer.",
    )
    billing = AssistantAgent(
        "billing",
        model,
        tools=[invoice],
        handoffs=["desk", "user"],
        system_message="Answer questions about invoices, then hand back to the desk.",
        max_tool_iterations=3,
    )
    return Swarm([desk, billing], termination_condition=HandoffTermination("user") | TextMentionTermination("DONE"))
