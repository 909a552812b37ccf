"""An agent as a service: built anew for each request, run on its conversation, its speakers written into the sink."""

import asyncio
from collections.abc import Mapping
from typing import Any

import orjson
from autogen_agentchat.base import ChatAgent, Team
from autogen_core.models import ChatCompletionClient, LLMMessage, UserMessage
from autogen_core.tools import ToolResult, ToolSchema, Workbench

from fleet.process.turns import Turn, Turns
from protos import chat_pb2 as pb
from worker.agents.assembly import equip, limit_turns, parts
from worker.agents.chat import converse, names, recite
from worker.agents.components import HandedBack, UserTurn
from worker.agents.entry import Built, Context, Entry
from worker.agents.events import Writer
from worker.agents.ledger import Ledger, OutOfTurns
from worker.agents.model import ClientCalls
from worker.agents.token import RunToken
from worker.agents.transcript import Transcript
from worker.agents.workbench import ToolFailed
from worker.contract import conversation, failures, fields, options
from worker.contract.errors import AgentFailed
from worker.contract.images import Images
from worker.contract.observer import Observer
from worker.contract.sink import Sink
from worker.contract.tool_call import tool_call


class AgentService:
    """Serves ``entry`` with the worker's models and MCP servers, which all runs share."""

    def __init__(
        self,
        entry: Entry,
        models: Mapping[str, ChatCompletionClient],
        workbenches: Mapping[str, Workbench],
        turns: Turns,
        images: Images,
        observer: Observer,
    ) -> None:
        self._entry = entry
        self._models = models
        self._workbenches = workbenches
        self._turns = turns
        self._images = images
        self._observer = observer
        self._names = {id(client): name for name, client in models.items()}

    async def run(self, request: pb.ChatHistory, sink: Sink) -> pb.Done:
        """See :class:`worker.services.service.Service`. Raises :class:`AgentFailed` beside a model's errors."""
        async with self._turns.turn() as turn:
            messages = await conversation.messages(request, "", turn)
            client_tools = await _client_tools(request, turn)
        await self._images.admit(messages)
        metadata = _metadata(request)
        run = _AgentRun(self._entry, sink, Ledger(self._observer, self._names))
        run.ledger.recall.read(request.messages)
        del request
        limit = asyncio.timeout(self._entry.timeout)
        try:
            async with limit:
                context = Context(
                    self._entry.arguments,
                    metadata,
                    messages,
                    _task(messages),
                    self._models,
                    self._workbenches,
                    run.ledger,
                    run.transcript,
                )
                return await run.run(await run.build(context), messages, client_tools)
        except TimeoutError:
            if not limit.expired():
                raise
            raise AgentFailed(f"the agent took longer than {self._entry.timeout:g} s", retryable=True) from None
        finally:
            run.transcript.close()


class _AgentRun:
    """One run's parts."""

    def __init__(self, entry: Entry, sink: Sink, ledger: Ledger) -> None:
        speakers = entry.speakers
        self.ledger = ledger
        self.transcript = Transcript(sink, (lambda _: True) if speakers is None else speakers.__contains__)
        self._entry = entry
        self._sink = sink
        self._token = RunToken()

    async def build(self, context: Context) -> Built:
        try:
            return await self._entry.build(context)
        except Exception as error:
            raise AgentFailed(f"the agent cannot be built: {type(error).__name__}: {error}") from error

    async def run(self, built: Built, messages: list[LLMMessage], client_tools: list[ToolSchema]) -> pb.Done:
        try:
            stopped = await self._speak(built, messages, client_tools)
        except ClientCalls as called:
            for index, (call, delta) in enumerate(zip(called.calls, called.deltas, strict=True)):
                for event in fields.events({"delta": delta}, beside=True):
                    self._sink.event(event)
                self._sink.event(tool_call(index, call.id, call.name, call.arguments))
            return self._done("function_calls", "")
        except asyncio.CancelledError:
            if isinstance(self.ledger.error, ToolFailed) and self._token.is_cancelled():
                raise AgentFailed(str(self.ledger.error)) from self.ledger.error
            raise
        except Exception as error:
            cause = self.ledger.error or error  # a team's own error is a traceback as text
            if isinstance(cause, OutOfTurns):
                return self._done("length", f"the agent used its {self._entry.max_turns} turns")
            if isinstance(cause, HandedBack):
                self.transcript.event(str(cause), pb.ReplyEvent(handoff=pb.Handoff(target="user")))
                return self._done("stop", f"it is the turn of {cause}")
            if self.ledger.error is not None:
                raise cause from error
            raise AgentFailed(f"the agent failed ({type(error).__name__})") from error
        return self._done("stop", stopped)

    async def _speak(self, built: Built, messages: list[LLMMessage], client_tools: list[ToolSchema]) -> str:
        entry = self._entry
        if not isinstance(built, ChatAgent | Team):
            writer = Writer(self.transcript, self.ledger, frozenset(), None)
            return await recite(built, entry.name, self.transcript, writer, self._token)
        if entry.max_turns is not None:
            if isinstance(built, Team):
                limit_turns(built, entry.max_turns)
            else:
                self.ledger.limit(entry.max_turns)
        tapped = equip(built, self.transcript, self.ledger, client_tools, self._tool_failed)
        writer = Writer(self.transcript, self.ledger, tapped, names(built))
        try:
            return await converse(built, messages, writer, self._token)
        except Exception:
            for part in parts(built):
                if isinstance(part, UserTurn) and part.reached:
                    raise HandedBack(part.name) from None
            raise

    def _tool_failed(self, name: str, result: ToolResult) -> None:
        if self._entry.on_tool_error == "fail":
            self.ledger.failed(ToolFailed(f"the tool {name} failed: {result.to_text()[:500]}"))
            self._token.cancel()

    def _done(self, reason: str, stopped: str) -> pb.Done:
        """Why it stopped is a field of the choice, and what each agent has used one of the usage."""
        for event in fields.events({"choice": {"stop_reason": stopped}} if stopped else {}, beside=True):
            self._sink.event(event)
        usage = failures.usage(self.ledger.total)
        by_agent = {
            name: {"prompt_tokens": used.prompt_tokens, "completion_tokens": used.completion_tokens}
            for name, used in self.ledger.by_speaker.items()
            if name
        }
        if by_agent:
            usage.extra = fields.dumps({"by_agent": by_agent})
        return pb.Done(finish_reason=reason, usage=usage)


async def _client_tools(request: pb.ChatHistory, turn: Turn) -> list[ToolSchema]:
    given: list[Any] = (await options.arguments(request.options, turn)).get("tools", [])
    return [tool.schema for tool in given]


def _metadata(request: pb.ChatHistory) -> dict[str, Any]:
    extra: dict[str, Any] = orjson.loads(request.options.extra) if request.options.extra else {}
    sent = extra.get("metadata")
    return {**(sent if isinstance(sent, dict) else {}), "request_id": request.request_id, "model": request.model}


def _task(messages: list[LLMMessage]) -> str:
    last = next((message for message in reversed(messages) if isinstance(message, UserMessage)), None)
    if last is None:
        return ""
    if isinstance(last.content, str):
        return last.content
    return "\n".join(part for part in last.content if isinstance(part, str))
