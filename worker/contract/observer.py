"""The port for metrics and traces: what a worker does, as contexts around it, each of which does nothing here.

An observer is made in ``__main__`` and handed down, like the clock. No moment comes once per token. Contexts nest as
the calls do: what begins within another's ``with``, in the same task or in one that it starts, belongs to it.
"""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

from protos import chat_pb2 as pb


@dataclass
class Deed:
    """What is observed; whoever does it tells how it went. An exception that leaves the context is a failure too."""

    code: str = "ok"
    """``ok``, ``cancelled`` or an error's."""
    usage: pb.Usage = field(default_factory=pb.Usage)

    def first_event(self) -> None:
        """The first event of the reply was written."""


class Observer:
    """Override what matters. Nothing here may take long or raise, but for what the context is left with."""

    def run(self, request: pb.ChatHistory) -> AbstractContextManager[Deed]:
        """A run, from its acceptance to its end. The request must not be kept."""
        return nullcontext(Deed())

    def agent(self, name: str) -> AbstractContextManager[Deed]:
        """An agent's turn."""
        return nullcontext(Deed())

    def tool(self, name: str, call_id: str) -> AbstractContextManager[Deed]:
        """A tool's call, by an agent."""
        return nullcontext(Deed())

    def model(self, name: str) -> AbstractContextManager[Deed]:
        """A call of the model of that public name, by a run or an agent."""
        return nullcontext(Deed())

    def headers(self) -> dict[str, str]:
        """What a request made now must carry, so that its receiver's spans belong to what is observed."""
        return {}
