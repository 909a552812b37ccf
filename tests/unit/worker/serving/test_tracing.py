"""What the spans of runs, agents, tools and models have, beside what ``tests/integration/test_traces.py`` shows."""

import asyncio
import json
from typing import Any

import pytest
from autogen_agentchat.agents import AssistantAgent
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from fleet import logs
from fleet.process.turns import Turns
from fleet.tracing.context import headers
from fleet.tracing.spans import OwnTracer
from protos import chat_pb2 as pb
from tests.unit.worker.agents.scripted import Kept, Says, ScriptedModel, request, service
from worker.agents.entry import Context
from worker.agents.threads import ToolThreads
from worker.contract.errors import ProviderRefused
from worker.contract.images import Images
from worker.services.model import ModelService
from worker.serving.content import LIMIT
from worker.serving.tracing import Passing, Tracing

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
SECRET = "the whale is white"


class Scene:
    def __init__(self, has_content: bool = False) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        processor = SimpleSpanProcessor(self.exporter)
        self.provider.add_span_processor(processor)
        self.observer = Tracing(OwnTracer(self.provider, processor, "chatfleet"), has_content=has_content)

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self.exporter.get_finished_spans())

    def attributes(self, name: str) -> dict[str, Any]:
        (found,) = self.all_attributes(name)
        return found

    def all_attributes(self, name: str) -> list[dict[str, Any]]:
        return [dict(span.attributes or {}) for span in self.spans if span.name == name]

    def text(self) -> str:
        return "".join(span.to_json() for span in self.spans)


def adding(context: Context) -> AssistantAgent:
    def look(where: str) -> str:
        """Look."""
        return f"{SECRET} {where}"

    return AssistantAgent("helper", context.model("m"), system_message=None, tools=[look], max_tool_iterations=2)


def scripted() -> ScriptedModel:
    return ScriptedModel(Says(calls=[("c1", "look", json.dumps({"where": SECRET}))]), f"I see {SECRET}")


async def test_content_is_left_out() -> None:
    scene = Scene()
    with scene.observer.run(request(SECRET)):
        await service(adding, {"m": scripted()}, observer=scene.observer).run(request(SECRET), Kept())
    assert len(scene.spans) == 5
    assert SECRET not in scene.text()


async def test_content_is_there_where_it_is_asked_for() -> None:
    scene = Scene(has_content=True)
    await service(adding, {"m": scripted()}, observer=scene.observer).run(request("go"), Kept())
    tool = scene.attributes("execute_tool look")
    assert tool["gen_ai.tool.call.arguments"] == json.dumps({"where": SECRET}, separators=(",", ":"))
    assert tool["gen_ai.tool.call.result"] == f"{SECRET} {SECRET}"
    first, second = scene.all_attributes("chat scripted")
    assert json.loads(first["gen_ai.input.messages"]) == [
        {"role": "user", "parts": [{"type": "text", "content": "go"}]}
    ]
    (call,) = json.loads(first["gen_ai.output.messages"])[0]["parts"]
    assert (call["type"], call["name"]) == ("tool_call", "look")
    assert json.loads(second["gen_ai.output.messages"]) == [
        {
            "role": "assistant",
            "parts": [{"type": "text", "content": f"I see {SECRET}"}],
            "finish_reason": "stop",
        }
    ]


async def test_a_plain_models_content_is_there_too_and_bounded() -> None:
    scene = Scene(has_content=True)
    model = ScriptedModel("word " * 3_000)
    asked = request("x" * 100_000, "y" * 100_000, "z")
    serving = ModelService("m", model, "", Turns(), Images(1), scene.observer)
    done = await serving.run(asked, kept := Kept())
    assert done.finish_reason == "stop"
    assert len(kept.events) == 3_001
    told = scene.attributes("chat scripted")
    assert len(told["gen_ai.input.messages"]) < 2 * LIMIT
    assert json.loads(told["gen_ai.input.messages"])[-1]["parts"] == [{"type": "text", "content": "z"}]
    assert len(told["gen_ai.output.messages"]) < 2 * LIMIT
    assert json.loads(told["gen_ai.output.messages"])[0]["parts"][0]["content"].startswith("wordword")


async def test_a_models_refusal_is_the_error_of_its_call() -> None:
    scene = Scene()
    model = ScriptedModel(Says(error=ProviderRefused("slow down", status=429)))
    serving = ModelService("m", model, "", Turns(), Images(1), scene.observer)
    with pytest.raises(ProviderRefused):
        await serving.run(request("go"), Kept())
    assert scene.attributes("chat scripted")["error.type"] == "model_rate_limited"
    assert not scene.spans[0].status.is_ok


async def test_a_cancelled_call_is_no_error() -> None:
    scene = Scene()
    with pytest.raises(asyncio.CancelledError), scene.observer.model("m", scripted()):
        raise asyncio.CancelledError
    assert scene.spans[0].status.is_unset
    assert scene.attributes("chat scripted")["chatfleet.code"] == "cancelled"


async def test_a_conversation_is_named() -> None:
    scene = Scene()
    asked = request("go", options=pb.ChatOptions(extra='{"metadata":{"conversation_id":"c-1"}}'))
    with scene.observer.run(asked):
        pass
    assert scene.attributes("run agent")["gen_ai.conversation.id"] == "c-1"


@pytest.mark.parametrize("extra", ["", "{", '{"metadata":1}', '{"metadata":{"thread_id":1}}', '["metadata"]'])
def test_odd_metadata_names_none(extra: str) -> None:
    scene = Scene()
    with scene.observer.run(request("go", options=pb.ChatOptions(extra=extra))):
        pass
    assert "gen_ai.conversation.id" not in scene.attributes("run agent")


async def test_spans_of_an_agents_own_code_are_within_its_tool() -> None:
    scene = Scene()
    asyncio.get_running_loop().set_default_executor(ToolThreads(1))
    own = scene.provider.get_tracer("mine")

    def build(context: Context) -> AssistantAgent:
        def look() -> str:
            """Look."""
            with own.start_as_current_span("lookup"):
                return "nothing"

        return AssistantAgent("helper", context.model("m"), system_message=None, tools=[look], max_tool_iterations=2)

    model = ScriptedModel(Says(calls=[("c1", "look", "{}")]), "done")
    await service(build, {"m": model}, observer=scene.observer).run(request("go"), Kept())
    spans = {span.name: span for span in scene.spans}
    lookup, tool = spans["lookup"], spans["execute_tool look"]
    assert lookup.parent is not None
    assert tool.context is not None
    assert lookup.parent.span_id == tool.context.span_id


@pytest.mark.parametrize("observer", [Passing(), Scene().observer], ids=["passing", "tracing"])
@pytest.mark.usefixtures("restored_logs")
def test_a_run_is_within_the_clients_trace_and_its_log_says_so(
    observer: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure("worker")
    log = logs.logger("worker.test")
    asked = request("go", traceparent=PARENT, tracestate="a=1")
    with observer.run(asked):
        carried = headers()
        assert carried["traceparent"].split("-")[1] == PARENT.split("-")[1]
        assert carried["tracestate"] == "a=1"
        log.warning("within")
    assert headers() == {}
    log.warning("after")
    within, after = capsys.readouterr().err.splitlines()
    assert f"trace_id={PARENT.split('-')[1]}" in within
    assert "trace_id" not in after


@pytest.mark.parametrize("parent", ["", "nonsense"])
def test_without_a_trace_nothing_is_passed_on(parent: str) -> None:
    with Passing().run(request("go", traceparent=parent)):
        assert headers() == {}
        assert trace.get_current_span() is trace.INVALID_SPAN
