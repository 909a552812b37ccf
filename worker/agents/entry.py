"""An agent that is served under a public name, and what its code is given to build it."""

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from autogen_agentchat.base import ChatAgent, Team
from autogen_core.models import ChatCompletionClient, LLMMessage
from autogen_core.tools import Workbench

from worker.agents.assembly import Target
from worker.agents.ledger import Ledger
from worker.agents.model import AgentModel
from worker.agents.transcript import Transcript

T = TypeVar("T")
Built = Target | AsyncIterator[Any]


@dataclass(frozen=True)
class Context:
    """What a factory gets for one request.

    ``arguments`` are those of the agent's entry; ``metadata`` the request's: ``request_id``, ``model`` and what the
    client sent as ``metadata``; ``messages`` the whole conversation, whose last user turn is ``task`` as text.
    """

    arguments: Mapping[str, Any]
    metadata: Mapping[str, Any]
    messages: Sequence[LLMMessage]
    task: str
    _models: Mapping[str, ChatCompletionClient] = field(repr=False)
    _workbenches: Mapping[str, Workbench] = field(repr=False)
    _ledger: Ledger = field(repr=False)
    _transcript: Transcript = field(repr=False)

    def model(self, name: str) -> ChatCompletionClient:
        """The model of that name in ``models.yaml``. Raises ``LookupError``."""
        return self.own(_find(self._models, name, "models.yaml has no model"))

    def own(self, client: ChatCompletionClient) -> ChatCompletionClient:
        """A client that the factory has made itself, written and counted like the models of ``models.yaml``."""
        return AgentModel(client, self._ledger, self._transcript)

    def workbench(self, name: str) -> Workbench:
        """The MCP server of that name in ``agents.yaml``. Raises ``LookupError``."""
        return _find(self._workbenches, name, "agents.yaml has no MCP server")


def _find(among: Mapping[str, T], name: str, missing: str) -> T:
    if name not in among:
        raise LookupError(f"{missing} {name!r}; it has {', '.join(among) or 'none'}")
    return among[name]


@dataclass(frozen=True)
class Entry:
    """One agent of ``agents.yaml``.

    ``speakers`` are those whose text is the answer; None is everybody. ``max_turns`` are a team's turns, or a single
    agent's calls of its model. ``timeout`` is in seconds. ``concurrency`` are the runs that one worker takes at once.
    """

    name: str
    factory: Callable[[Context], Any]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    description: str = ""
    speakers: frozenset[str] | None = None
    max_turns: int | None = None
    timeout: float | None = None
    on_tool_error: Literal["tell", "fail"] = "tell"
    concurrency: int | None = None

    async def build(self, context: Context) -> Built:
        """A fresh agent, team or generator for one request. Raises ``TypeError`` for anything else."""
        made = self.factory(context)
        if inspect.isawaitable(made):
            awaited: Awaitable[Any] = made
            made = await awaited
        if not isinstance(made, ChatAgent | Team | AsyncIterator):
            raise TypeError(f"its factory returned {type(made).__name__}, not an agent, a team or a generator")
        return made
