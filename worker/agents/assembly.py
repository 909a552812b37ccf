"""What an agent or a team is made of, and the parts of ours that take the place of its own for one run.

Private names used: ``_participants``, ``_team``, ``_wrapped_agent``, ``_model_client``, ``_model_client_stream``,
``_workbench`` and ``_max_turns`` of AgentChat 0.7.5; ``tests/unit/worker/agents/test_agentchat_private.py`` fails when
one changes.
"""

from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import ExitStack, aclosing
from typing import Any

from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.base import ChatAgent, Response, Team
from autogen_core.models import ChatCompletionClient, LLMMessage
from autogen_core.tools import ToolResult, ToolSchema

from worker.agents.ledger import Ledger, RunOver
from worker.agents.model import AgentModel
from worker.agents.transcript import Transcript
from worker.agents.workbench import GuardedWorkbench
from worker.contract.observer import Observer

Target = ChatAgent | Team


def parts(target: Target) -> Iterator[Target]:
    """The agent or team itself, and every agent and team within it."""
    yield target
    inner: list[Any] = [*getattr(target, "_participants", ())]
    inner += [found for name in ("_team", "_wrapped_agent") if (found := getattr(target, name, None)) is not None]
    for part in inner:
        if isinstance(part, ChatAgent | Team):
            yield from parts(part)


def equip(
    target: Target,
    transcript: Transcript,
    ledger: Ledger,
    client_tools: Sequence[ToolSchema],
    on_tool_error: Callable[[str, ToolResult], None],
) -> frozenset[str]:
    """Give every agent its model and its workbenches for this run; return the agents that speak by their models.

    ``client_tools`` go to a single agent: a team's members would all be offered them.
    """
    tapped = set()
    for part in parts(target):
        made: Any = part
        client = getattr(part, "_model_client", None)
        if isinstance(client, ChatCompletionClient):
            model = client if isinstance(client, AgentModel) else AgentModel(client, ledger, transcript)
            if isinstance(part, AssistantAgent):
                model = model.of(part.name, client_tools if part is target else ())
                made._model_client_stream = False
                tapped.add(part.name)
            made._model_client = model
        if isinstance(part, AssistantAgent):
            made._workbench = [GuardedWorkbench(bench, on_tool_error, ledger.observer) for bench in part._workbench]
        if isinstance(part, ChatAgent):
            made.on_messages_stream = _observed(part, ledger.observer)
    return frozenset(tapped)


def _observed(agent: ChatAgent, observer: Observer) -> Callable[..., AsyncGenerator[Any, None]]:
    """The agent's turns, told to ``observer``."""
    name, speak = agent.name, agent.on_messages_stream

    async def on_messages_stream(*arguments: Any, **named: Any) -> AsyncGenerator[Any, None]:
        with ExitStack() as turn:
            turn.enter_context(observer.agent(name))
            try:
                async with aclosing(speak(*arguments, **named)) as events:
                    async for event in events:
                        if isinstance(event, Response):
                            turn.close()  # whoever has the response may leave the generator as it is
                        yield event
            except RunOver:
                turn.close()
                raise

    return on_messages_stream


def limit_turns(target: Target, turns: int) -> None:
    """At most so many turns of a team, unless its own limit is lower."""
    made: Any = target
    own = getattr(target, "_max_turns", None)
    if hasattr(target, "_max_turns") and (own is None or own > turns):
        made._max_turns = turns


async def remember(target: Target, history: Sequence[LLMMessage]) -> bool:
    """Put what was said before into every agent's context; whether the target has any."""
    found = False
    for part in parts(target):
        context: Any = getattr(part, "model_context", None)
        if context is not None:
            found = True
            for message in history:
                await context.add_message(message)
    return found
