"""What we rely on of AgentChat 0.7.5, private names and behaviour alike. One that fails says what has changed upstream;
where stock got better, the part of ours that stands in for it may go.
"""

import asyncio
import gc
import threading
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from typing import Any

import pytest
from autogen_agentchat.agents import AssistantAgent, MessageFilterAgent, MessageFilterConfig, SocietyOfMindAgent
from autogen_agentchat.base import TaskResult
from autogen_agentchat.conditions import MaxMessageTermination, TextMentionTermination
from autogen_agentchat.messages import (
    ModelClientStreamingChunkEvent,
    TextMessage,
    ToolCallExecutionEvent,
    ToolCallRequestEvent,
)
from autogen_agentchat.teams import RoundRobinGroupChat, SelectorGroupChat, Swarm
from autogen_core import CancellationToken, ComponentLoader, FunctionCall
from autogen_core.models import AssistantMessage, CreateResult, RequestUsage, UserMessage
from autogen_core.tools import FunctionTool, StaticStreamWorkbench, TextResultContent, ToolResult, Workbench
from autogen_ext.models.replay import ReplayChatCompletionClient
from pydantic import ValidationError

from tests.harness.waiting import until
from tests.unit.worker.agents.scripted import INFO
from worker.agents.components import ASSISTANT_DEFAULTS

HANGS = 0.5
"""Seconds after which something that ends within 30 ms, if it ends, counts as hanging."""

Answer = str | CreateResult


def stock(*answers: Answer) -> ReplayChatCompletionClient:
    return ReplayChatCompletionClient(list(answers), model_info=INFO)


def calling(name: str, arguments: str = "{}") -> CreateResult:
    call = FunctionCall(id="c1", name=name, arguments=arguments)
    return CreateResult(finish_reason="function_calls", content=[call], usage=RequestUsage(1, 1), cached=False)


def agent(name: str = "helper", *answers: Answer, **fields: Any) -> AssistantAgent:
    return AssistantAgent(name, stock(*answers), system_message=None, **fields)


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """Collect what hung in each test: Python 3.11 fails if it happens while a module is compiled."""
    yield
    gc.collect()


async def hangs(
    stream: AsyncGenerator[Any, None], begun: asyncio.Event | None = None, after: Callable[[], object] = lambda: None
) -> bool:
    """Whether ``stream`` still runs :data:`HANGS` seconds after ``after``, called once it has ``begun``. Ends it."""

    async def consume() -> None:
        async for _ in stream:
            pass

    task = asyncio.ensure_future(consume())
    if begun is not None:
        await until(begun.is_set)
    after()
    await asyncio.wait([task], timeout=HANGS)
    is_hanging = not task.done()
    for _ in range(5):  # a team that hangs also waits while it is closed
        task.cancel()
        await asyncio.wait([task], timeout=0.1)
    return is_hanging


# ---------------------------------------------------------------- private names


async def test_agents_and_teams_keep_their_parts_where_we_look() -> None:
    one = agent("one", "hello")
    team = RoundRobinGroupChat([one, agent("two", "hello")], max_turns=7)
    assert [part.name for part in team._participants] == ["one", "two"]
    assert team._max_turns == 7
    assert team._participants[0] is one
    mind = SocietyOfMindAgent("mind", team, stock("all"))
    assert mind._team is team
    assert isinstance(mind._model_client, ReplayChatCompletionClient)
    filtered = MessageFilterAgent("filtered", one, MessageFilterConfig(per_source=[]))
    assert filtered._wrapped_agent is one
    selected = SelectorGroupChat([one, agent("two")], stock("one"))
    assert isinstance(selected._model_client, ReplayChatCompletionClient)
    assert one._model_client_stream is False


async def test_an_agent_uses_the_model_and_the_workbenches_that_were_put_in_last() -> None:
    def add(a: int, b: int) -> int:
        """Add."""
        return a + b

    made = agent("helper", "stock")
    made._model_client = stock(calling("add", '{"a": 1, "b": 2}'), "ours")
    made._workbench = [StaticStreamWorkbench([FunctionTool(add, "Add.")])]
    made._max_tool_iterations = 2
    result = await made.run(task="1+2?")
    assert [message.content for message in result.messages if isinstance(message, TextMessage)] == ["1+2?", "ours"]
    assert [m.content[0].content for m in result.messages if isinstance(m, ToolCallExecutionEvent)] == ["3"]


async def test_a_teams_limit_of_turns_counts_if_it_is_set_after_the_team_is_made() -> None:
    team = RoundRobinGroupChat([agent("one", *"abcdef")], max_turns=5)
    team._max_turns = 2
    result = await team.run(task="go")
    assert [message.source for message in result.messages] == ["user", "one", "one"]


async def test_what_is_added_to_an_agents_context_is_asked_before_the_task() -> None:
    made = agent("helper", "fine")
    await made.model_context.add_message(UserMessage(content="hi", source="user"))
    await made.model_context.add_message(AssistantMessage(content="hello", source="assistant"))
    await made.run(task="how are you?")
    assert [message.content for message in await made.model_context.get_messages()][:3] == [
        "hi",
        "hello",
        "how are you?",
    ]


# ---------------------------------------------------------------- why the tap, and the filter of chunks


async def test_a_streaming_selectors_words_are_chunks_of_the_manager() -> None:
    """events.py shows chunks of a team's own agents only."""
    one, two = agent("one", "hello"), agent("two", "hello")
    team = SelectorGroupChat([one, two], stock("one"), model_client_streaming=True, max_turns=1, emit_team_events=True)
    chunks = [event async for event in team.run_stream(task="hi") if isinstance(event, ModelClientStreamingChunkEvent)]
    assert [chunk.content for chunk in chunks] == ["one"]
    assert chunks[0].source not in ("one", "two")
    assert chunks[0].full_message_id is None


async def test_without_streaming_of_its_own_an_agent_calls_create() -> None:
    made = agent("helper", "hello there")
    events = [event async for event in made.run_stream(task="hi", output_task_messages=False)]
    assert not any(isinstance(event, ModelClientStreamingChunkEvent) for event in events)
    assert [event.content for event in events if isinstance(event, TextMessage)] == ["hello there"]
    assert isinstance(events[-1], TaskResult)


# ---------------------------------------------------------------- why workbenches are guarded


class Raising(Workbench):
    """What an MCP workbench does whose server died."""

    component_config_schema = TextMessage

    async def list_tools(self) -> list[Any]:
        return [{"name": "wait", "description": "Waits."}]

    async def call_tool(
        self,
        name: str,
        arguments: Mapping[str, Any] | None = None,
        cancellation_token: CancellationToken | None = None,
        call_id: str | None = None,
    ) -> ToolResult:
        raise ConnectionError("it has died")

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def reset(self) -> None: ...

    async def save_state(self) -> Mapping[str, Any]:
        return {}

    async def load_state(self, state: Mapping[str, Any]) -> None: ...


async def test_an_agent_hangs_when_its_workbench_raises() -> None:
    assert await hangs(agent("helper", calling("wait"), workbench=Raising()).run_stream(task="go"))


async def test_an_agent_hangs_when_it_is_cancelled_in_a_tool() -> None:
    started = asyncio.Event()

    async def wait() -> str:
        """Wait."""
        started.set()
        await asyncio.Event().wait()
        return ""

    token = CancellationToken()
    made = agent("helper", calling("wait"), tools=[wait])
    assert await hangs(made.run_stream(task="go", cancellation_token=token), started, token.cancel)


async def test_agents_read_the_events_of_a_tool_only_from_a_static_stream_workbench() -> None:
    class Streamed(StaticStreamWorkbench):
        async def call_tool_stream(self, name: str, *_: Any, **__: Any) -> AsyncGenerator[Any, None]:
            yield ModelClientStreamingChunkEvent(content="half", source="tool")
            yield ToolResult(name=name, result=[TextResultContent(content="whole")])

    def wait() -> str:
        """Wait."""
        return ""

    made = agent("helper", calling("wait"), workbench=Streamed([FunctionTool(wait, "Wait.")]))
    events = [event async for event in made.run_stream(task="go")]
    assert [event.content for event in events if isinstance(event, ModelClientStreamingChunkEvent)] == ["half"]
    assert any(isinstance(event, ToolCallRequestEvent) for event in events)


@pytest.mark.parametrize("arguments", ["[]", "null", "1"])
async def test_a_swarm_hangs_at_a_handoff_whose_arguments_are_no_object(arguments: str) -> None:
    """model.py gives agents objects only."""
    desk = agent("desk", calling("transfer_to_user", arguments), handoffs=["user"])
    assert await hangs(Swarm([desk], max_turns=1).run_stream(task="go"))


async def test_functions_run_in_the_loops_default_executor() -> None:
    """threads.py bounds them there."""
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1, "default"))

    def where() -> str:
        return threading.current_thread().name

    tool = FunctionTool(where, "Where it runs.")
    assert str(await tool.run_json({}, CancellationToken())).startswith("default")


# ---------------------------------------------------------------- why a token of ours, cancelled first


def test_the_stock_token_stops_at_the_first_callback_that_raises() -> None:
    token, called = CancellationToken(), []

    def fail() -> None:
        raise AttributeError

    token.add_callback(fail)
    token.add_callback(lambda: called.append(True))
    with pytest.raises(AttributeError):
        token.cancel()
    assert called == []


async def test_a_team_that_is_only_closed_goes_on() -> None:
    """chat.py cancels the token before it leaves a stream."""
    model = stock(*map(str, range(6)))
    team = RoundRobinGroupChat([AssistantAgent("one", model, system_message=None)], max_turns=6)
    async with aclosing(team.run_stream(task="go")) as stream:
        async for event in stream:
            if event.source == "one":  # type: ignore[union-attr]
                break
    await until(lambda: len(model.create_calls) == 6, 5, "all turns are run, and paid for")


# ---------------------------------------------------------------- why one instance a run, and the history in contexts


async def test_a_team_refuses_a_second_run_at_once() -> None:
    team = RoundRobinGroupChat([agent("one", "hello", "hello")], max_turns=1)
    stream = team.run_stream(task="go")
    await anext(stream)
    with pytest.raises(ValueError, match="already running"):
        await anext(team.run_stream(task="go"))
    async for _ in stream:
        pass


async def test_termination_counts_history_that_is_given_as_the_task() -> None:
    history = [TextMessage(content=text, source="user") for text in ("a", "b", "TERMINATE")]
    for condition in (MaxMessageTermination(3), TextMentionTermination("TERMINATE")):
        team = RoundRobinGroupChat([agent("one", "hello")], termination_condition=condition)
        result = await team.run(task=history)
        assert {message.source for message in result.messages} == {"user"}, "no agent has spoken"


async def test_a_teams_error_is_a_traceback() -> None:
    """ledger.py keeps the error itself."""
    model = stock()  # it has no answers
    team = RoundRobinGroupChat([AssistantAgent("one", model, system_message=None)], max_turns=1)
    with pytest.raises(RuntimeError, match="Traceback"):
        await team.run(task="go")


# ---------------------------------------------------------------- why components are repaired


def assistant_config() -> dict[str, Any]:
    return agent("helper").dump_component().model_dump()


def test_an_older_export_lacks_fields_that_its_agent_requires() -> None:
    config = assistant_config()
    given = {key: value for key, value in config["config"].items() if key not in ASSISTANT_DEFAULTS}
    for version, kind in ((1, NotImplementedError), (2, ValidationError)):
        with pytest.raises(kind):
            ComponentLoader.load_component(config | {"component_version": version, "config": given}, AssistantAgent)
    repaired = config | {"version": 2, "component_version": 2, "config": ASSISTANT_DEFAULTS | given}
    assert ComponentLoader.load_component(repaired, AssistantAgent).name == "helper"


def test_a_user_proxy_of_a_component_would_read_standard_input() -> None:
    config = {
        "provider": "autogen_agentchat.agents.UserProxyAgent",
        "config": {"name": "user", "description": "", "input_func": None},
    }
    made: Any = ComponentLoader.load_component(config, object)
    assert made.input_func.__name__ == "cancellable_input"


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_lambda_in_a_component_does_not_load() -> None:
    config = {
        "provider": "autogen_core.tools.FunctionTool",
        "config": {
            "source_code": "lambda a: a\n",
            "name": "same",
            "description": "",
            "global_imports": [],
            "has_cancellation_support": False,
        },
    }
    with pytest.raises(ValueError, match="compile"):
        ComponentLoader.load_component(config, FunctionTool)
