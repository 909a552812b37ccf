"""AutoGen's OpenAI clients with a stream that can be trusted: drop-in subclasses, used for the stock ones.

What differs from AutoGen 0.7.5's ``create_stream``: the HTTP response is closed whenever the generator is, so that a
cancelled chat stops the model; reasoning comes as :class:`ReasoningText`, not between tags in the text; a stream that
ends without a finish reason raises :class:`StreamBroken` instead of passing for a reply; finish reason and usage are
taken from whichever chunk has them. Private parts used: ``_process_create_args``, ``_client``, ``_add_usage`` and the
two usage counters; ``tests/unit/test_autogen_private.py`` fails when one changes.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, Literal

from autogen_core import CancellationToken, FunctionCall
from autogen_core.models import CreateResult, LLMMessage, RequestUsage
from autogen_core.tools import Tool, ToolSchema
from autogen_ext.models._utils.normalize_stop_reason import normalize_stop_reason
from autogen_ext.models.openai import AzureOpenAIChatCompletionClient, OpenAIChatCompletionClient
from autogen_ext.models.openai._openai_client import BaseOpenAIChatCompletionClient, _add_usage
from openai import AsyncStream
from openai.types.chat import ChatCompletionChunk
from pydantic import BaseModel


class ReasoningText(str):
    """A piece of what the model thought, as opposed to what it answers."""

    __slots__ = ()


class StreamBroken(Exception):
    """The model's stream ended without saying that it is complete. ``usage`` is what it had told by then."""

    def __init__(self, usage: RequestUsage) -> None:
        super().__init__("the model's stream ended without a finish reason")
        self.usage = usage


class _Reply:
    """What the chunks so far amount to."""

    def __init__(self) -> None:
        self.text: list[str] = []
        self.thought: list[str] = []
        self.calls: dict[int, FunctionCall] = {}
        self.finish_reason: str | None = None
        self.usage = RequestUsage(prompt_tokens=0, completion_tokens=0)

    def take(self, chunk: ChatCompletionChunk) -> list[str]:
        """Note a chunk and return its pieces of reasoning and text."""
        if chunk.usage is not None:
            self.usage = RequestUsage(chunk.usage.prompt_tokens or 0, chunk.usage.completion_tokens or 0)
        if not chunk.choices:
            return []
        choice = chunk.choices[0]
        self.finish_reason = choice.finish_reason or self.finish_reason
        delta = choice.delta
        pieces: list[str] = []
        extra = delta.model_extra or {}
        reasoning = extra.get("reasoning_content") or extra.get("reasoning")
        if isinstance(reasoning, str) and reasoning:
            self.thought.append(reasoning)
            pieces.append(ReasoningText(reasoning))
        if delta.content:
            self.text.append(delta.content)
            pieces.append(delta.content)
        for part in delta.tool_calls or []:
            call = self.calls.setdefault(part.index, FunctionCall(id="", arguments="", name=""))
            call.id += part.id or ""
            if part.function is not None:
                call.name += part.function.name or ""
                call.arguments += part.function.arguments or ""
        return pieces

    def result(self) -> CreateResult:
        """The whole, once the stream has said that it is complete."""
        if self.finish_reason is None:
            raise StreamBroken(self.usage)
        text = "".join(self.text)
        thought = "".join(self.thought) or None
        return CreateResult(
            finish_reason=normalize_stop_reason(self.finish_reason),
            content=list(self.calls.values()) if self.calls else text,
            usage=self.usage,
            cached=False,
            thought=(thought or text or None) if self.calls else thought,
        )


class _Streaming(BaseOpenAIChatCompletionClient):
    """The stream, for both kinds of client."""

    async def create_stream(
        self,
        messages: Sequence[LLMMessage],
        *,
        tools: Sequence[Tool | ToolSchema] = [],
        tool_choice: Tool | Literal["auto", "required", "none"] = "auto",
        json_output: bool | type[BaseModel] | None = None,
        extra_create_args: Mapping[str, Any] = {},
        cancellation_token: CancellationToken | None = None,
        max_consecutive_empty_chunk_tolerance: int = 0,
        include_usage: bool | None = None,
    ) -> AsyncGenerator[str | CreateResult, None]:
        """Yield pieces of text and reasoning, then one ``CreateResult``.

        Close the generator (or cancel the task that waits in it) to end the request: the connection is closed with it.
        ``json_output`` takes true, false or None; a schema goes into ``extra_create_args["response_format"]``.
        Raises the OpenAI SDK's errors, :class:`StreamBroken`, and ``ValueError`` for what the model cannot do.
        """
        if isinstance(json_output, type):
            raise ValueError("json_output takes no class here: put the schema into response_format")
        params = self._process_create_args(messages, tools, tool_choice, json_output, extra_create_args)
        arguments = dict(params.create_args)
        if include_usage is not False:
            arguments.setdefault("stream_options", {"include_usage": True})
        if params.tools:
            arguments["tools"] = params.tools
        completions: Any = self._client.chat.completions
        stream: AsyncStream[ChatCompletionChunk] = await completions.create(
            messages=params.messages, stream=True, **arguments
        )
        reply = _Reply()
        try:
            async for chunk in stream:
                for piece in reply.take(chunk):
                    yield piece
        finally:
            await stream.close()
        result = reply.result()
        self._total_usage = _add_usage(self._total_usage, result.usage)
        self._actual_usage = _add_usage(self._actual_usage, result.usage)
        yield result


class StreamingOpenAIClient(_Streaming, OpenAIChatCompletionClient):
    """Stands in for ``OpenAIChatCompletionClient``; same configuration."""


class StreamingAzureOpenAIClient(_Streaming, AzureOpenAIChatCompletionClient):
    """Stands in for ``AzureOpenAIChatCompletionClient``; same configuration."""
