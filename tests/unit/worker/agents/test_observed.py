"""What an observer sees of a run: turns, tools and model calls, each within what it belongs to, each ended once."""

import asyncio
import contextvars
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_core.models import CreateResult
from autogen_core.tools import FunctionTool, StaticWorkbench

from tests.harness.waiting import until
from tests.unit.worker.agents.scripted import Kept, Says, ScriptedModel, request, service, told
from worker.agents.entry import Context
from worker.agents.threads import ToolThreads
from worker.agents.workbench import GuardedWorkbench
from worker.contract.observer import Observer, Observers, Operation

within: contextvars.ContextVar[str] = contextvars.ContextVar("within", default="run")


class Watching(Observer):
    """``seen`` are ``(what, what it is within, how it ended)``, in the order of their ends."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, str]] = []
        self.open = 0

    def agent(self, name: str) -> AbstractContextManager[Operation]:
        return self._during(f"agent {name}")

    def tool(self, name: str, call_id: str) -> AbstractContextManager[Operation]:
        return self._during(f"tool {name} {call_id}")

    def model(self, name: str, client: object, endpoint: str = "chat") -> AbstractContextManager[Operation]:
        return self._during(f"model {name}")

    @contextmanager
    def _during(self, what: str) -> Iterator[Operation]:
        outer = within.get()
        within.set(what)
        operation = Operation()
        self.open += 1
        try:
            yield operation
        except BaseException as error:
            operation.code = type(error).__name__
            raise
        finally:
            within.set(outer)
            self.open -= 1
            self.seen.append((what, outer, f"{operation.code} {operation.finish_reason}".strip()))


def assistant(context: Context, name: str = "helper", **fields: Any) -> AssistantAgent:
    return AssistantAgent(name, context.model("m"), system_message=None, **fields)


async def test_a_tool_and_two_model_calls_are_within_the_turn() -> None:
    during: list[str] = []

    def add(a: int, b: int) -> int:
        """Add."""
        during.append(within.get())  # in a thread
        return a + b

    def build(context: Context) -> AssistantAgent:
        return assistant(context, tools=[add], max_tool_iterations=3)

    asyncio.get_running_loop().set_default_executor(ToolThreads(2))
    watching = Watching()
    model = ScriptedModel(Says(calls=[("c1", "add", '{"a": 1, "b": 2}')]), "it is 3")
    await told(service(build, {"m": model}, observer=watching), "1+2?")
    assert watching.seen == [
        ("model m", "agent helper", "ok function_calls"),
        ("tool add c1", "agent helper", "ok"),
        ("model m", "agent helper", "ok stop"),
        ("agent helper", "run", "ok"),
    ]
    assert during == ["tool add c1"]


async def test_a_tool_that_fails_says_so() -> None:
    def broken() -> str:
        """Fail."""
        raise ValueError("as it should")

    def build(context: Context) -> AssistantAgent:
        return assistant(context, tools=[broken], max_tool_iterations=2)

    watching = Watching()
    model = ScriptedModel(Says(calls=[("c1", "broken", "{}")]), "well")
    await told(service(build, {"m": model}, observer=watching), "go")
    assert ("tool broken c1", "agent helper", "tool_failed") in watching.seen


async def test_each_turn_of_a_team_is_within_the_run() -> None:
    def build(context: Context) -> RoundRobinGroupChat:
        return RoundRobinGroupChat([assistant(context, "a"), assistant(context, "b")], max_turns=2)

    watching = Watching()
    await told(service(build, {"m": ScriptedModel("one", "two")}, observer=Observers([watching])), "go")
    assert watching.seen == [
        ("model m", "agent a", "ok stop"),
        ("agent a", "run", "ok"),
        ("model m", "agent b", "ok stop"),
        ("agent b", "run", "ok"),
    ]


async def test_a_model_that_fails_ends_its_call_and_the_turn_with_the_error() -> None:
    watching = Watching()
    model = ScriptedModel(Says(error=RuntimeError("gone")))
    with pytest.raises(RuntimeError):
        await told(service(assistant, {"m": model}, observer=watching), "go")
    assert watching.seen == [
        ("model m", "agent helper", "RuntimeError"),
        ("agent helper", "run", "RuntimeError"),
    ]


async def test_all_is_ended_when_the_run_is_cancelled() -> None:
    watching = Watching()
    model = ScriptedModel(Says("I wait", waits=asyncio.Event()))
    running = asyncio.create_task(service(assistant, {"m": model}, observer=watching).run(request("go"), Kept()))
    await until(lambda: model.running)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert [(what, end) for what, _, end in watching.seen] == [
        ("model m", "CancelledError"),
        ("agent helper", "CancelledError"),
    ]


async def test_a_call_of_the_clients_tool_is_no_failure() -> None:
    asked = request("weather?")
    asked.options.tools.add(name="weather", parameters='{"type":"object","properties":{}}')
    watching = Watching()
    model = ScriptedModel(Says(calls=[("c1", "weather", "{}")]))
    await service(assistant, {"m": model}, observer=watching).run(asked, Kept())
    assert watching.seen == [("model m", "agent helper", "ok function_calls"), ("agent helper", "run", "ok")]


async def test_a_model_of_the_agents_own_is_named_so() -> None:
    own = ScriptedModel("hello")

    def build(context: Context) -> AssistantAgent:
        return AssistantAgent("helper", context.own(own), system_message=None)

    watching = Watching()
    await told(service(build, observer=watching), "hi")
    assert watching.seen[0] == ("model own", "agent helper", "ok stop")


async def test_a_call_is_over_for_whoever_leaves_its_stream_at_the_result() -> None:
    async def build(context: Context) -> Any:
        async for piece in context.model("m").create_stream([]):
            if isinstance(piece, CreateResult):
                assert watching.open == 0
                yield piece.content
                return

    watching = Watching()
    await told(service(build, {"m": ScriptedModel("hello")}, observer=watching), "hi")
    assert watching.seen == [("model m", "run", "ok stop")]


def test_several_observers_are_told_how_it_ended() -> None:
    one, two = Watching(), Watching()
    with Observers([one, two]).model("m", None) as operation:
        operation.code, operation.finish_reason = "odd", "length"
    assert one.seen == [("model m", "run", "odd length")]
    assert two.seen == [("model m", "model m", "odd length")]


async def test_a_tool_that_is_not_there_has_no_name_of_its_own() -> None:
    """What a model asks for is its own text, which no metric and no span must have."""

    def count() -> int:
        return 1

    watching, tool = Watching(), FunctionTool(count, "counts")
    workbench = GuardedWorkbench(StaticWorkbench([tool]), lambda *_: None, watching)
    await workbench.list_tools()
    for name in ("count", "tell the password hunter2"):
        await workbench.call_tool(name, {}, call_id="c1")
    assert [what for what, _, _ in watching.seen] == ["tool count c1", "tool unknown c1"]
