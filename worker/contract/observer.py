"""The port for metrics and traces: what a worker does, as contexts around it, each of which does nothing here.

An observer is made in ``__main__`` and handed down, like the clock. No moment comes once per token. Contexts nest as
the calls do: what begins within another's ``with``, in the same task or in one that it starts, belongs to it.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field
from types import TracebackType

from protos import chat_pb2 as pb
from worker.contract.sink import Sink


@dataclass
class Deed:
    """What is observed; whoever does it tells how it went. An exception that leaves the context is a failure too."""

    code: str = "ok"
    """``ok``, ``cancelled``, ``tool_failed`` or an error's."""
    usage: pb.Usage = field(default_factory=pb.Usage)
    finish_reason: str = ""

    def ended(self, done: pb.Done) -> pb.Done:
        """A reply ended well; returns ``done``."""
        self.usage, self.finish_reason = done.usage, done.finish_reason
        return done

    def first_event(self) -> None:
        """The first event of the reply was written."""

    def asked(self, content: object) -> None:
        """What a model or a tool is given: messages or arguments. Nothing of it may be kept."""

    def answered(self, content: object) -> None:
        """What it answered. Nothing of it may be kept."""

    def through(self, sink: Sink) -> Sink:
        """What a model's reply is written to, instead of ``sink``: itself, or one that also listens."""
        return sink


class Observer:
    """Override what matters. Nothing here may take long or raise, but for what the context is left with.

    A context may be left in another task than it was entered in: AgentChat's agents are generators.
    """

    def run(self, request: pb.ChatHistory) -> AbstractContextManager[Deed]:
        """A run, from its acceptance to its end. The request must not be kept."""
        return nullcontext(Deed())

    def agent(self, name: str) -> AbstractContextManager[Deed]:
        """An agent's turn."""
        return nullcontext(Deed())

    def tool(self, name: str, call_id: str) -> AbstractContextManager[Deed]:
        """A call of an agent's tool. ``name`` is that of a tool: a model may ask for anything."""
        return nullcontext(Deed())

    def model(self, name: str, client: object, endpoint: str = "chat") -> AbstractContextManager[Deed]:
        """A call of the model of that name in ``models.yaml``, or of an agent's :data:`OWN`, by a run or an agent."""
        return nullcontext(Deed())


OWN = "own"
"""The name of models that ``models.yaml`` does not have."""


class Observers(Observer):
    """Tells each of several: the first is entered first, and left last."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = observers

    def run(self, request: pb.ChatHistory) -> AbstractContextManager[Deed]:
        return self._all(lambda observer: observer.run(request))

    def agent(self, name: str) -> AbstractContextManager[Deed]:
        return self._all(lambda observer: observer.agent(name))

    def tool(self, name: str, call_id: str) -> AbstractContextManager[Deed]:
        return self._all(lambda observer: observer.tool(name, call_id))

    def model(self, name: str, client: object, endpoint: str = "chat") -> AbstractContextManager[Deed]:
        return self._all(lambda observer: observer.model(name, client, endpoint))

    def _all(self, begin: Callable[[Observer], AbstractContextManager[Deed]]) -> AbstractContextManager[Deed]:
        return _Together([begin(observer) for observer in self._observers])


class _Together(AbstractContextManager[Deed]):
    def __init__(self, contexts: list[AbstractContextManager[Deed]]) -> None:
        self._contexts = contexts

    def __enter__(self) -> Deed:
        with ExitStack() as entered:  # each is left, also if another one fails
            self._deed = _Shared([entered.enter_context(context) for context in self._contexts])
            self._entered = entered.pop_all()
        return self._deed

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        shared = self._deed
        for deed in shared.deeds:
            deed.code, deed.usage, deed.finish_reason = shared.code, shared.usage, shared.finish_reason
        self._entered.__exit__(kind, error, traceback)


class _Shared(Deed):
    def __init__(self, deeds: list[Deed]) -> None:
        super().__init__()
        self.deeds = deeds

    def first_event(self) -> None:
        for deed in self.deeds:
            deed.first_event()

    def asked(self, content: object) -> None:
        for deed in self.deeds:
            deed.asked(content)

    def answered(self, content: object) -> None:
        for deed in self.deeds:
            deed.answered(content)

    def through(self, sink: Sink) -> Sink:
        for deed in self.deeds:
            sink = deed.through(sink)
        return sink
