"""A model that says what a test tells it, a sink that keeps what is written, and an agent's service between them."""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from autogen_core.models import ModelInfo
from autogen_core.tools import Workbench

from fleet.lane import Producer
from fleet.process.turns import Turns
from protos import chat_pb2 as pb
from worker.agents.entry import Context, Entry
from worker.contract import fields
from worker.contract.images import Images
from worker.contract.observer import Observer
from worker.contract.sink import Sink
from worker.openai.client import StreamingOpenAIClient
from worker.services.agent import AgentService

INFO = ModelInfo(
    vision=False, function_calling=True, json_output=True, family="unknown", structured_output=True,
    multiple_system_messages=True,
)  # fmt: skip


@dataclass
class Says:
    """One answer of the model: its deltas, then calls as ``(id, name, arguments)``."""

    text: str = ""
    reasoning: str = ""
    calls: list[tuple[str, str, str]] = field(default_factory=list)
    refusal: str = ""
    waits: asyncio.Event | None = None
    error: Exception | None = None


class ScriptedModel(StreamingOpenAIClient):
    """Answers in turn. ``asked`` are the bodies that it got, ``cancelled`` how many calls were stopped."""

    as_text: ClassVar[bool] = False

    def __init__(self, *answers: Says | str) -> None:
        super().__init__(model="scripted", api_key="none", model_info=INFO)
        self.answers = deque(answer if isinstance(answer, Says) else Says(answer) for answer in answers)
        self.asked: list[dict[str, Any]] = []
        self.cancelled = 0
        self.running = 0

    async def stream(self, sink: Sink, body: dict[str, Any]) -> pb.Done:
        self.asked.append(body)
        answer = self.answers.popleft()
        self.running += 1
        try:
            if answer.reasoning:
                sink.reasoning(answer.reasoning)
            for word in answer.text.split(" ") if answer.text else ():
                sink.text(word if word == answer.text.split(" ")[0] else f" {word}")
                await asyncio.sleep(0)
            if answer.waits is not None:
                await answer.waits.wait()
            if answer.error is not None:
                raise answer.error
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.running -= 1
        for event in fields.events({"delta": {"refusal": answer.refusal}} if answer.refusal else {}, beside=False):
            sink.event(event)
        for index, (id_, name, arguments) in enumerate(answer.calls):
            sink.event(pb.ReplyEvent(tool_call=pb.ToolCall(index=index, id=id_, name=name, arguments=arguments)))
        reason = "function_calls" if answer.calls else "stop"
        return pb.Done(finish_reason=reason, usage=pb.Usage(prompt_tokens=10, completion_tokens=5))


class Kept:
    """A sink that keeps ``events``; text is joined by kind and source."""

    def __init__(self) -> None:
        self.events: list[pb.ReplyEvent] = []
        self.producer: Producer | None = None

    def text(self, text: str, tokens: int = 1, source: str = "") -> None:
        self.events.append(pb.ReplyEvent(text=text, source=source))

    def reasoning(self, text: str, tokens: int = 1, source: str = "") -> None:
        self.events.append(pb.ReplyEvent(reasoning=text, source=source))

    def event(self, event: pb.ReplyEvent) -> None:
        self.events.append(event)

    def attach(self, producer: Producer | None) -> None:
        self.producer = producer

    async def ready(self) -> None:
        pass

    @property
    def told(self) -> list[tuple[str, str, str]]:
        """The events as ``(kind, source, text)``; neighbouring deltas are joined, marks are left out."""
        found: list[tuple[str, str, str]] = []
        for event in self.events:
            kind = str(event.WhichOneof("event"))
            match kind:
                case "text" | "reasoning":
                    text = getattr(event, kind)
                case "tool_call":
                    text = f"{event.tool_call.name}{event.tool_call.arguments}"
                case "tool_result":
                    text = event.tool_result.content
                case "handoff":
                    text = event.handoff.target
                case "custom":
                    text = event.custom.kind
                case _:
                    continue
            if found and kind in ("text", "reasoning") and found[-1][:2] == (kind, event.source):
                found[-1] = (kind, event.source, found[-1][2] + text)
            else:
                found.append((kind, event.source, text))
        return found


def request(*turns: str, **fields: Any) -> pb.ChatHistory:
    """A conversation: user and assistant speak in turn, the user last."""
    asked = pb.ChatHistory(request_id="r", model="agent", **fields)
    for number, text in enumerate(turns):
        is_user = (len(turns) - number) % 2 == 1
        role, source = (pb.ROLE_USER, "user") if is_user else (pb.ROLE_ASSISTANT, "assistant")
        asked.messages.add(role=role, source=source).content.add(text=text)
    return asked


def service(
    factory: Callable[[Context], Any],
    models: Mapping[str, Any] | None = None,
    workbenches: Mapping[str, Workbench] | None = None,
    observer: Observer | None = None,
    **entry: Any,
) -> AgentService:
    made = Entry("agent", factory, **entry)
    return AgentService(made, models or {}, workbenches or {}, Turns(), Images(100_000_000), observer or Observer())


async def told(serving: AgentService, *turns: str) -> tuple[pb.Done, Kept]:
    kept = Kept()
    return await serving.run(request(*turns), kept), kept
