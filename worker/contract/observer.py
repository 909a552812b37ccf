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
class Operation:
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

    def run(self, request: pb.ChatHistory) -> AbstractContextManager[Operation]:
        """A run, from its acceptance to its end. The request must not be kept."""
        return nullcontext(Operation())

    def agent(self, name: str) -> AbstractContextManager[Operation]:
        """An agent's turn."""
        return nullcontext(Operation())

    def tool(self, name: str, call_id: str) -> AbstractContextManager[Operation]:
        """A call of an agent's tool. ``name`` is that of a tool: a model may ask for anything."""
        return nullcontext(Operation())

    def model(self, name: str, client: object, endpoint: str = "chat") -> AbstractContextManager[Operation]:
        """A call of the model of that name in ``models.yaml``, or of an agent's :data:`OWN`, by a run or an agent."""
        return nullcontext(Operation())


OWN = "own"
"""The name of models that ``models.yaml`` does not have."""


class Observers(Observer):
    """Tells each of several: the first is entered first, and left last."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = observers

    def run(self, request: pb.ChatHistory) -> AbstractContextManager[Operation]:
        return self._all(lambda observer: observer.run(request))

    def agent(self, name: str) -> AbstractContextManager[Operation]:
        return self._all(lambda observer: observer.agent(name))

    def tool(self, name: str, call_id: str) -> AbstractContextManager[Operation]:
        return self._all(lambda observer: observer.tool(name, call_id))

    def model(self, name: str, client: object, endpoint: str = "chat") -> AbstractContextManager[Operation]:
        return self._all(lambda observer: observer.model(name, client, endpoint))

    def _all(self, begin: Callable[[Observer], AbstractContextManager[Operation]]) -> AbstractContextManager[Operation]:
        return _Together([begin(observer) for observer in self._observers])


class _Together(AbstractContextManager[Operation]):
    def __init__(self, contexts: list[AbstractContextManager[Operation]]) -> None:
        self._contexts = contexts

    def __enter__(self) -> Operation:
        with ExitStack() as entered:  # each is left, also if another one fails
            self._operation = _Shared([entered.enter_context(context) for context in self._contexts])
            self._entered = entered.pop_all()
        return self._operation

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        shared = self._operation
        for operation in shared.operations:
            operation.code, operation.usage, operation.finish_reason = shared.code, shared.usage, shared.finish_reason
        self._entered.__exit__(kind, error, traceback)


class _Shared(Operation):
    def __init__(self, operations: list[Operation]) -> None:
        super().__init__()
        self.operations = operations

    def first_event(self) -> None:
        for operation in self.operations:
            operation.first_event()

    def asked(self, content: object) -> None:
        for operation in self.operations:
            operation.asked(content)

    def answered(self, content: object) -> None:
        for operation in self.operations:
            operation.answered(content)

    def through(self, sink: Sink) -> Sink:
        for operation in self.operations:
            sink = operation.through(sink)
        return sink
