"""What is counted of a worker's runs and calls."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from autogen_core.models import RequestUsage

from fleet.metrics.exposition import Exposition
from fleet.metrics.values import NAMES
from protos import chat_pb2 as pb
from worker.contract.errors import StreamBroken
from worker.contract.observer import Observer, Observers, Operation
from worker.metrics.work import WorkMetrics


class Stage:
    def __init__(self) -> None:
        self.exposition = Exposition()
        self.served, self.now = ["m"], 0.0
        counting = WorkMetrics(self.exposition, lambda: self.served, lambda: self.now)
        self.metrics: Observer = Observers([Observer(), counting])

    def value(self, name: str, **labels: str) -> float | None:
        return self.exposition.registry.get_sample_value(f"chatfleet_{name}", labels)


def test_a_run_is_active_until_it_ends_with_its_code() -> None:
    stage = Stage()
    with stage.metrics.run(pb.ChatHistory(model="m")) as operation:
        assert stage.value("runs_active", model="m") == 1
        operation.first_event()
        operation.code = "model_timeout"
    assert stage.value("runs_active", model="m") == 0
    assert stage.value("runs_total", model="m", code="model_timeout") == 1
    assert stage.value("run_time_to_first_token_seconds_count", model="m") == 1
    assert stage.value("run_duration_seconds_count", model="m") == 1


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (StreamBroken("it broke", RequestUsage(0, 0)), "model_stream_broken"),
        (ConnectionRefusedError(), "model_unreachable"),
        (asyncio.CancelledError(), "cancelled"),
        (KeyError("a defect"), "internal_error"),
    ],
)
def test_a_call_of_a_model_that_fails_says_how(error: BaseException, code: str) -> None:
    stage = Stage()
    with pytest.raises(type(error)), stage.metrics.model("m", object()):
        raise error
    assert stage.value("model_calls_total", model="m", code=code) == 1
    assert stage.value("model_calls_active", model="m") == 0


def test_tools_and_agents_are_bounded_in_number() -> None:
    stage = Stage()
    for number in range(300):
        with stage.metrics.tool(f"tool-{number}", "1") as operation:
            operation.code = "tool_failed"
        with stage.metrics.agent(f"agent-{number}"):
            pass
    assert stage.value("tool_calls_total", tool="tool-0", code="tool_failed") == 1
    assert stage.value("tool_calls_total", tool="other", code="tool_failed") == 100
    assert stage.value("agent_turns_total", agent="other", code="ok") == 100
    assert stage.value("tool_call_duration_seconds_count", tool="other") == 100


def test_an_unknown_code_is_another() -> None:
    stage = Stage()
    with stage.metrics.run(pb.ChatHistory(model="m")) as operation:
        operation.code = "what the prompt said"
    assert stage.value("runs_total", model="m", code="other") == 1


class Strange(Exception):
    """One whose attributes raise, as those of a client that is not ours may."""

    @property
    def status_code(self) -> int:
        raise ValueError


class Noted(Observer):
    """Notes how its contexts are left."""

    def __init__(self) -> None:
        self.left: list[str] = []

    @contextmanager
    def model(self, name: str, client: object, endpoint: str = "chat") -> Iterator[Operation]:
        try:
            yield Operation()
        finally:
            self.left.append(name)


class Broken(Observer):
    @contextmanager
    def model(self, name: str, client: object, endpoint: str = "chat") -> Iterator[Operation]:
        try:
            yield Operation()
        finally:
            raise LookupError


def test_an_exception_that_cannot_be_understood_is_counted_too() -> None:
    stage = Stage()
    with pytest.raises(Strange), stage.metrics.model("m", object()):
        raise Strange
    assert stage.value("model_calls_total", model="m", code="internal_error") == 1


def test_an_observer_that_fails_keeps_no_other_from_its_end() -> None:
    noted = Noted()
    with pytest.raises(LookupError), Observers([noted, Broken()]).model("m", object()):
        pass
    assert noted.left == ["m"]


def test_models_come_and_go_without_using_up_the_names() -> None:
    """As where models.yaml is changed each night, and the worker goes on."""
    stage = Stage()
    for night in range(NAMES + 1):
        stage.served = [f"m{night}"]
        stage.now += 86_400
        with stage.metrics.run(pb.ChatHistory(model=f"m{night}")), stage.metrics.model(f"m{night}", object()):
            pass
        list(stage.exposition.registry.collect())
        assert stage.value("runs_total", model=f"m{night}", code="ok") == 1
        assert stage.value("model_calls_total", model=f"m{night}", code="ok") == 1
    assert stage.value("runs_total", model="m0", code="ok") is None
    assert stage.value("run_duration_seconds_count", model="m0") is None
