"""Agents and teams, served: who says what, what it costs, and how it ends."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.base import ChatAgent, Team
from autogen_agentchat.conditions import HandoffTermination, MaxMessageTermination, TextMentionTermination
from autogen_agentchat.messages import TextMessage
from autogen_agentchat.teams import RoundRobinGroupChat, SelectorGroupChat, Swarm

from tests.harness.waiting import until
from tests.unit.worker.agents.scripted import Kept, Says, ScriptedModel, request, service, told
from worker.agents import chat
from worker.agents.entry import Context
from worker.contract.errors import AgentFailed


def assistant(context: Context, name: str = "helper", **fields: Any) -> AssistantAgent:
    return AssistantAgent(name, context.model("m"), system_message=None, **fields)


async def test_an_agents_words_are_the_answer() -> None:
    model = ScriptedModel("hello there")
    done, kept = await told(service(assistant, {"m": model}), "hi")
    assert kept.told == [("text", "helper", "hello there")]
    assert (done.finish_reason, done.usage.prompt_tokens, done.usage.completion_tokens) == ("stop", 10, 5)
    assert len([event for event in kept.events if event.HasField("text")]) == 2  # as they arrive


async def test_the_conversation_is_remembered_and_its_last_turn_is_the_task() -> None:
    model = ScriptedModel("fine")
    await told(service(assistant, {"m": model}), "hi", "hello", "how are you?")
    said = [(message["role"], message["content"]) for message in model.asked[0]["messages"]]
    assert said == [("user", "hi"), ("assistant", "hello"), ("user", "how are you?")]


@pytest.mark.parametrize("length", [5, 40_000], ids=["short", "cut into several events"])
async def test_a_models_refusal_is_what_its_agent_says(length: int) -> None:
    def build(context: Context) -> RoundRobinGroupChat:
        return RoundRobinGroupChat([assistant(context, "a"), assistant(context, "b")], max_turns=2)

    words, model = "n" * length, ScriptedModel(Says(refusal="n" * length), "fine")
    _, kept = await told(service(build, {"m": model}), "go")
    assert kept.told == [("text", "a", words), ("text", "b", "fine")]
    assert model.asked[1]["messages"][-1]["content"] == words, "the others hear it too"


async def test_a_tool_runs_here_and_is_shown() -> None:
    def add(a: int, b: int) -> int:
        """Add."""
        return a + b

    def build(context: Context) -> AssistantAgent:
        return assistant(context, tools=[add], max_tool_iterations=3)

    model = ScriptedModel(Says("let me see", calls=[("c1", "add", '{"a": 1, "b": 2}')]), "it is 3")
    done, kept = await told(service(build, {"m": model}), "1+2?")
    assert kept.told == [
        ("text", "helper", "let me see"),
        ("tool_call", "helper", 'add{"a": 1, "b": 2}'),
        ("tool_result", "helper", "3"),
        ("text", "helper", "it is 3"),
    ]
    assert done.usage.prompt_tokens == 20


@pytest.mark.parametrize("arguments", ["", "[]", "null", "{", "1"])
async def test_odd_arguments_of_a_handoff_do_not_hang(arguments: str) -> None:
    def build(context: Context) -> Swarm:
        return Swarm(
            [assistant(context, "a", handoffs=["b"]), assistant(context, "b")],
            termination_condition=MaxMessageTermination(4),
        )

    model = ScriptedModel(Says(calls=[("c1", "transfer_to_b", arguments)]), "done", "x", "y", "z")
    async with asyncio.timeout(5):
        await told(service(build, {"m": model}), "go")


async def test_a_team_speaks_in_turn_and_nobody_twice() -> None:
    def build(context: Context) -> RoundRobinGroupChat:
        return RoundRobinGroupChat([assistant(context, "a"), assistant(context, "b")], max_turns=3)

    done, kept = await told(service(build, {"m": ScriptedModel("one", "two", "three")}), "go")
    assert kept.told == [("text", "a", "one"), ("text", "b", "two"), ("text", "a", "three")]
    assert done.usage.completion_tokens == 15
    marks = [(event.source, event.message.end) for event in kept.events if event.HasField("message")]
    assert marks == [("a", False), ("a", True), ("b", False), ("b", True), ("a", False), ("a", True)]


async def test_only_speakers_answer_and_the_others_think_aloud() -> None:
    def build(context: Context) -> RoundRobinGroupChat:
        return RoundRobinGroupChat([assistant(context, "a"), assistant(context, "b")], max_turns=2)

    _, kept = await told(service(build, {"m": ScriptedModel("one", "two")}, speakers=frozenset({"b"})), "go")
    assert kept.told == [("reasoning", "a", "one"), ("text", "b", "two")]


async def test_a_selectors_words_are_not_heard() -> None:
    def build(context: Context) -> SelectorGroupChat:
        members: list[ChatAgent | Team] = [
            assistant(context, "a", description="x"),
            assistant(context, "b", description="y"),
        ]
        return SelectorGroupChat(
            members, context.model("m"), max_turns=2, allow_repeated_speaker=True, model_client_streaming=True
        )

    done, kept = await told(service(build, {"m": ScriptedModel("b", "one", "a", "two")}), "go")
    assert kept.told == [("text", "b", "one"), ("text", "a", "two")]
    assert done.usage.prompt_tokens == 40


async def test_a_handoff_to_the_user_ends_the_run() -> None:
    def build(context: Context) -> Swarm:
        return Swarm([assistant(context, "a", handoffs=["user"])], termination_condition=HandoffTermination("user"))

    _, kept = await told(service(build, {"m": ScriptedModel(Says(calls=[("c", "transfer_to_user", "{}")]))}), "go")
    assert ("handoff", "a", "user") in kept.told


async def test_the_history_does_not_end_a_team() -> None:
    def build(context: Context) -> RoundRobinGroupChat:
        return RoundRobinGroupChat([assistant(context)], termination_condition=TextMentionTermination("STOP"))

    _, kept = await told(service(build, {"m": ScriptedModel("now STOP")}), "STOP", "no", "go on")
    assert kept.told == [("text", "helper", "now STOP")]


async def test_a_generator_is_an_agent() -> None:
    async def build(context: Context) -> AsyncIterator[Any]:
        yield "a"
        yield TextMessage(content="b", source="other")
        yield context.task

    _, kept = await told(service(build), "c")
    assert kept.told == [("text", "agent", "a"), ("text", "other", "b"), ("text", "agent", "c")]


async def test_max_turns_of_a_single_agent_are_its_model_calls() -> None:
    def look() -> str:
        """Look."""
        return "nothing"

    def build(context: Context) -> AssistantAgent:
        return assistant(context, tools=[look], max_tool_iterations=100)

    model = ScriptedModel(*[Says(calls=[(f"c{n}", "look", "{}")]) for n in range(5)])
    done, _ = await told(service(build, {"m": model}, max_turns=3), "go")
    assert done.finish_reason == "length"
    assert len(model.asked) == 3


async def test_a_clients_tool_ends_the_turn() -> None:
    asked = request("weather?")
    asked.options.tools.add(name="weather", parameters='{"type":"object","properties":{}}')
    kept = Kept()
    model = ScriptedModel(Says(calls=[("c1", "weather", "{}")]))
    done = await service(assistant, {"m": model}).run(asked, kept)
    assert done.finish_reason == "function_calls"
    assert kept.told == [("tool_call", "", "weather{}")]


@pytest.mark.parametrize("where", ["model", "tool", "team"])
async def test_cancelling_stops_at_once(where: str) -> None:
    begun, never = asyncio.Event(), asyncio.Event()
    cancelled: list[str] = []

    async def wait() -> str:
        """Wait."""
        begun.set()
        try:
            await never.wait()
        except asyncio.CancelledError:
            cancelled.append("tool")
            raise
        return ""

    def build(context: Context) -> Any:
        agent = assistant(context, tools=[wait], max_tool_iterations=5)
        return RoundRobinGroupChat([agent, assistant(context, "other")], max_turns=50) if where == "team" else agent

    waiting = Says("I wait", waits=never) if where == "model" else Says(calls=[("c", "wait", "{}")])
    model = ScriptedModel(waiting, "more", "more")
    running = asyncio.create_task(service(build, {"m": model}).run(request("go"), Kept()))
    await until(lambda: model.running if where == "model" else begun.is_set())
    running.cancel()
    async with asyncio.timeout(5):
        with pytest.raises(asyncio.CancelledError):
            await running
    assert model.running == 0
    assert len(model.asked) == 1
    assert cancelled == ([] if where == "model" else ["tool"])
    await until(lambda: len(asyncio.all_tasks()) == 1)


async def test_an_agent_that_does_not_listen_is_ended_though_its_run_is_cancelled_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A gateway cancels what is superseded, and again what it no longer waits for."""
    monkeypatch.setattr(chat, "GRACE", 0.05)
    begun, never = asyncio.Event(), asyncio.Event()

    class Deaf(AssistantAgent):
        async def on_messages_stream(self, *_: Any) -> Any:
            begun.set()
            await never.wait()
            yield None

    def build(context: Context) -> Deaf:
        return Deaf("x", context.model("m"))

    running = asyncio.create_task(service(build, {"m": ScriptedModel()}).run(request("go"), Kept()))
    await begun.wait()
    for _ in range(3):
        running.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await running
    await until(lambda: len(asyncio.all_tasks()) == 1, what="its task has ended")


@pytest.mark.parametrize("in_team", [False, True])
async def test_a_models_error_is_told_as_it_is(in_team: bool) -> None:
    def build(context: Context) -> Any:
        agent = assistant(context)
        return RoundRobinGroupChat([agent], max_turns=2) if in_team else agent

    model = ScriptedModel(Says(error=TimeoutError("slow")))
    with pytest.raises(TimeoutError, match="slow"):
        await told(service(build, {"m": model}), "go")


async def test_a_teams_own_error_hides_its_traceback() -> None:
    class Broken(AssistantAgent):
        async def on_messages_stream(self, *_: Any) -> Any:
            for path in ("/secret/path",):
                raise KeyError(path)
            yield None

    def build(context: Context) -> Any:
        return RoundRobinGroupChat([Broken("x", context.model("m"))], max_turns=1)

    with pytest.raises(AgentFailed) as failed:
        await told(service(build, {"m": ScriptedModel()}), "go")
    assert "secret" not in str(failed.value)


async def test_a_timeout_ends_the_run() -> None:
    model = ScriptedModel(Says("a", waits=asyncio.Event()))
    with pytest.raises(AgentFailed, match=r"longer than 0\.05 s"):
        await told(service(assistant, {"m": model}, timeout=0.05), "go")
    assert model.running == 0


async def test_a_tools_error_is_told_to_the_agent_or_ends_the_run() -> None:
    def broken() -> str:
        """Break."""
        raise ValueError("no disk")

    def build(context: Context) -> AssistantAgent:
        return assistant(context, tools=[broken], max_tool_iterations=3)

    def model() -> ScriptedModel:
        return ScriptedModel(Says(calls=[("c", "broken", "{}")]), "sorry")

    _, kept = await told(service(build, {"m": model()}), "go")
    assert kept.told[1:] == [("tool_result", "helper", "no disk"), ("text", "helper", "sorry")]
    with pytest.raises(AgentFailed, match="broken failed: no disk"):
        await told(service(build, {"m": model()}, on_tool_error="fail"), "go")
