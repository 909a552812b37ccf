"""Counts runs, calls of models, agents' turns and tools' calls as they end."""

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager
from types import TracebackType

from prometheus_client import Counter as CounterMetric
from prometheus_client import Histogram
from prometheus_client.metrics_core import Metric as Family

from fleet.metrics.exposition import Exposition, by_label, gauge
from fleet.metrics.names import First, Served
from fleet.metrics.values import known_code
from protos import chat_pb2 as pb
from worker.contract import failures
from worker.contract.observer import Observer, Operation

Code = Callable[[BaseException], str]


class _Kind:
    """One kind of what is observed: how many, how long, and how many there are now, by name."""

    def __init__(
        self,
        total: CounterMetric,
        duration: Histogram,
        code: Code,
        name: First | Served,
        first: Histogram | None = None,
    ) -> None:
        self.total = total
        self.duration = duration
        self.first = first
        self.code = code
        self.name = name
        self.active: Counter[str] = Counter()

    def forget(self) -> None:
        """Drop the series of models that are served no more."""
        for model in self.name.gone() if isinstance(self.name, Served) else ():
            del self.active[model]
            for metric in filter(None, (self.total, self.duration, self.first)):
                metric.remove_by_labels({"model": model})


class _Measured(Operation, AbstractContextManager[Operation]):
    def __init__(self, kind: _Kind, name: str) -> None:
        super().__init__()
        self._kind = kind
        self._name = kind.name(name)
        self._began = time.monotonic()

    def __enter__(self) -> Operation:
        self._kind.active[self._name] += 1
        return self

    def first_event(self) -> None:
        if self._kind.first is not None:
            self._kind.first.labels(self._name).observe(time.monotonic() - self._began)

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None) -> None:
        kind, name = self._kind, self._name
        kind.active[name] -= 1
        code = kind.code(error) if error is not None and self.code == "ok" else self.code
        kind.total.labels(name, known_code(code)).inc()
        kind.duration.labels(name).observe(time.monotonic() - self._began)


class WorkMetrics(Observer):
    """``served`` returns the names of what is served, and of models for agents."""

    def __init__(
        self,
        exposition: Exposition,
        served: Callable[[], Collection[str]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        def kind(name: str, of_one: str, code: Code, names: First | Served, first: str = "") -> _Kind:
            duration = exposition.histogram(f"chatfleet_{of_one}_duration_seconds")
            return _Kind(
                exposition.counter(f"chatfleet_{name}_total"),
                duration,
                code,
                names,
                exposition.histogram(first) if first else None,
            )

        def named() -> Served:
            return Served(served, clock=clock)

        self._runs = kind("runs", "run", _failure, named(), "chatfleet_run_time_to_first_token_seconds")
        self._models = kind("model_calls", "model_call", _failure, named())
        self._agents = kind("agent_turns", "agent_turn", _failure, First())
        self._tools = kind("tool_calls", "tool_call", _tool_failure, First())
        exposition.add(self)

    def run(self, request: pb.ChatHistory) -> AbstractContextManager[Operation]:
        return _Measured(self._runs, request.model)

    def agent(self, name: str) -> AbstractContextManager[Operation]:
        return _Measured(self._agents, name)

    def tool(self, name: str, call_id: str) -> AbstractContextManager[Operation]:
        return _Measured(self._tools, name)

    def model(self, name: str, client: object, endpoint: str = "chat") -> AbstractContextManager[Operation]:
        return _Measured(self._models, name)

    def collect(self) -> Iterator[Family]:
        self._runs.forget()
        self._models.forget()
        yield gauge("chatfleet_runs_active", by_label(self._runs.active))
        yield gauge("chatfleet_model_calls_active", by_label(self._models.active))


def _failure(error: BaseException) -> str:
    return failures.code(error) if isinstance(error, Exception) else "cancelled"


def _tool_failure(error: BaseException) -> str:
    return "tool_failed" if isinstance(error, Exception) else "cancelled"
