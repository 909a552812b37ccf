"""An agent's model: a shared client, whose text is written into the run's transcript as it arrives.

Agents get ``create`` instead of AutoGen's streaming: no token passes a team's message bus, which costs 190 to 290 µs
each, and text, reasoning and tool calls stay apart.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, Literal, NoReturn, cast

from autogen_core import CancellationToken, FunctionCall
from autogen_core.models import (
    ChatCompletionClient,
    CreateResult,
    FinishReasons,
    LLMMessage,
    ModelInfo,
    RequestUsage,
)
from autogen_core.tools import Tool, ToolSchema
from pydantic import BaseModel

from fleet.lane import Producer
from protos import chat_pb2 as pb
from worker.agents.ledger import Ledger, RunOver
from worker.agents.recall import Beside
from worker.agents.transcript import Transcript
from worker.contract import failures
from worker.contract.autogen_body import autogen_body
from worker.contract.collected import collect
from worker.contract.observer import Operation
from worker.contract.pushed import Pushed
from worker.contract.tool_call import join

ToolChoice = Tool | Literal["auto", "required", "none"]


class ClientCalls(RunOver):
    """The model called tools that the client runs: the run ends with these calls, and the delta beside each."""

    def __init__(self, calls: list[FunctionCall], deltas: list[dict[str, Any]]) -> None:
        super().__init__("the model called the client's tools")
        self.calls = calls
        self.deltas = deltas


class AgentModel(ChatCompletionClient):
    """``client`` for one speaker of one run. Without a ``speaker`` nothing is written: a selector's choice is not.

    ``client_tools`` are offered to the model beside the agent's own. ``create`` raises :class:`ClientCalls` when it
    calls one of them, and what the client raises, which the ledger keeps: a team tells only its traceback.
    """

    component_type = "model"
    component_config_schema = BaseModel

    def __init__(
        self,
        client: ChatCompletionClient,
        ledger: Ledger,
        transcript: Transcript,
        speaker: str = "",
        client_tools: Sequence[ToolSchema] = (),
    ) -> None:
        self._client = client
        self._ledger = ledger
        self._transcript = transcript
        self._speaker = speaker
        self._client_tools = client_tools

    def of(self, speaker: str, client_tools: Sequence[ToolSchema] = ()) -> "AgentModel":
        """The same model for an agent that speaks under this name."""
        return AgentModel(self._client, self._ledger, self._transcript, speaker, client_tools)

    async def create(
        self,
        messages: Sequence[LLMMessage],
        *,
        tools: Sequence[Tool | ToolSchema] = [],
        tool_choice: ToolChoice = "auto",
        json_output: bool | type[BaseModel] | None = None,
        extra_create_args: Mapping[str, Any] = {},
        cancellation_token: CancellationToken | None = None,
    ) -> CreateResult:
        if cancellation_token is not None and cancellation_token.is_cancelled():
            raise asyncio.CancelledError
        self._ledger.begin_call()
        offered = [*tools, *self._client_tools]
        arguments: dict[str, Any] = {
            "tools": offered,
            "tool_choice": tool_choice,
            "json_output": json_output,
            "extra_create_args": extra_create_args,
        }
        with self._ledger.calling(self._client) as operation:
            operation.asked(messages)
            calling = asyncio.ensure_future(self._call(messages, arguments))
            if cancellation_token is not None:
                cancellation_token.link_future(calling)
            try:
                result = await calling
            except Exception as error:
                self._ledger.failed(error)
                raise
            finally:
                calling.cancel()
            _answered(operation, result)
        self._ledger.count(self._speaker, result.usage)
        self._end_with_client_calls(result)
        return result

    async def create_stream(
        self,
        messages: Sequence[LLMMessage],
        *,
        tools: Sequence[Tool | ToolSchema] = [],
        tool_choice: ToolChoice = "auto",
        json_output: bool | type[BaseModel] | None = None,
        extra_create_args: Mapping[str, Any] = {},
        cancellation_token: CancellationToken | None = None,
    ) -> AsyncGenerator[str | CreateResult, None]:
        """For agents that read the stream themselves, and yield what they make of it."""
        self._ledger.begin_call()
        arguments: dict[str, Any] = {
            "tools": tools,
            "tool_choice": tool_choice,
            "json_output": json_output,
            "extra_create_args": extra_create_args,
        }
        with ExitStack() as call:
            operation = call.enter_context(self._ledger.calling(self._client))
            operation.asked(messages)
            if isinstance(client := self._client, Pushed):
                body = autogen_body(messages, **arguments)
                pieces = collect(lambda sink: client.stream(sink, body), cancellation_token)
            else:
                pieces = client.create_stream(messages, cancellation_token=cancellation_token, **arguments)
            try:
                async for piece in pieces:
                    if isinstance(piece, CreateResult):
                        self._ledger.count(self._speaker, piece.usage)
                        _answered(operation, piece)
                        call.close()  # whoever has the result may leave the generator as it is
                    yield piece
            except Exception as error:
                self._ledger.failed(error)
                raise
            finally:
                await pieces.aclose()

    async def _call(self, messages: Sequence[LLMMessage], arguments: dict[str, Any]) -> CreateResult:
        heard = _Heard(self._transcript, self._speaker)
        recall = self._ledger.recall
        try:
            if isinstance(self._client, Pushed):
                body = autogen_body(messages, **arguments)
                recall.put_back(self._client, body["messages"])
                result = heard.result(await self._client.stream(heard, body))
                recall.keep(self._client, heard.calls, heard.beside)
                return result
            async for piece in self._client.create_stream(messages, **arguments):
                if isinstance(piece, CreateResult):
                    return piece
                heard.text(piece)
                await heard.ready()
            raise RuntimeError("the model's client gave no result")
        finally:
            heard.attach(None)

    def _end_with_client_calls(self, result: CreateResult) -> None:
        names = {tool["name"] for tool in self._client_tools}
        if names and isinstance(result.content, list):
            calls = [call for call in result.content if call.name in names]
            if calls:
                raise ClientCalls(calls, self._ledger.recall.told(self._client, calls))

    # ------------------------------------------------------------ the shared client's own

    async def close(self) -> None:
        """Nothing: other runs use the client."""

    def actual_usage(self) -> RequestUsage:
        return self._client.actual_usage()

    def total_usage(self) -> RequestUsage:
        return self._client.total_usage()

    def count_tokens(self, messages: Sequence[LLMMessage], *, tools: Sequence[Tool | ToolSchema] = []) -> int:
        return self._client.count_tokens(messages, tools=tools)

    def remaining_tokens(self, messages: Sequence[LLMMessage], *, tools: Sequence[Tool | ToolSchema] = []) -> int:
        return self._client.remaining_tokens(messages, tools=tools)

    @property
    def capabilities(self) -> Any:
        return self._client.capabilities

    @property
    def model_info(self) -> ModelInfo:
        return self._client.model_info

    def _to_config(self) -> NoReturn:
        raise NotImplementedError("an agent's model belongs to its run and cannot be saved")


class _Heard:
    """The sink of one model call: written into the transcript, and kept for the agent."""

    def __init__(self, transcript: Transcript, speaker: str) -> None:
        self._transcript = transcript
        self._speaker = speaker
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self.calls: dict[int, FunctionCall] = {}
        self.beside = Beside()
        self._producer: Producer | None = None

    def text(self, text: str, tokens: int = 1, source: str = "") -> None:
        self._text.append(text)
        if self._speaker:
            self._transcript.text(self._speaker, text, tokens)

    def reasoning(self, text: str, tokens: int = 1, source: str = "") -> None:
        self._reasoning.append(text)
        if self._speaker:
            self._transcript.reasoning(self._speaker, text, tokens)

    def event(self, event: pb.ReplyEvent) -> None:
        if event.HasField("tool_call"):
            join(self.calls, event.tool_call)
        elif event.HasField("fields") and (refused := self.beside.add(event.fields)):
            self.text(refused)

    def attach(self, producer: Producer | None) -> None:
        if self._producer is not None:
            self._transcript.detach(self._producer)
        self._producer = producer
        if producer is not None:
            self._transcript.attach(producer)

    async def ready(self) -> None:
        await self._transcript.ready()

    def result(self, done: pb.Done) -> CreateResult:
        text, thought = "".join(self._text), "".join(self._reasoning)
        calls = list(self.calls.values())
        for call in calls:
            call.arguments = _checked(call.arguments)
        if thought and self.beside.message:  # its thinking has a form of its own; AutoGen would send it as the text
            self.beside.message["content"] = text or None
        return CreateResult(
            finish_reason=cast("FinishReasons", done.finish_reason if not calls else "function_calls"),
            content=calls or text,
            usage=RequestUsage(done.usage.prompt_tokens, done.usage.completion_tokens),
            cached=False,
            thought=(thought or text or None) if calls else (thought or None),
        )


def _answered(operation: Operation, result: CreateResult) -> None:
    operation.ended(pb.Done(finish_reason=result.finish_reason, usage=failures.usage(result.usage)))
    operation.answered(result.content)


def _checked(arguments: str) -> str:
    """A call's arguments as AutoGen can read them: it waits for ever for a handoff whose arguments are no object."""
    if not arguments.strip():
        return "{}"
    try:
        is_object = isinstance(json.loads(arguments), dict)
    except (ValueError, RecursionError):
        is_object = False
    return arguments if is_object else f"not a JSON object: {arguments}"
