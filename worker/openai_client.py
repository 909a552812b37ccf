"""AutoGen's OpenAI clients with a stream that can be trusted and costs little: drop-in subclasses for the stock ones.

What differs from AutoGen 0.7.5's ``create_stream``: the HTTP response is closed whenever the generator is, so that a
cancelled chat stops the model; reasoning comes as :class:`ReasoningText`, not between tags in the text; a stream that
ends without a finish reason raises :class:`StreamBroken` instead of passing for a reply; finish reason and usage are
taken from whichever chunk has them; the stream's bytes are decoded here, not by the SDK's models, and read through
``worker.http1``. Private parts used: ``_process_create_args``, ``_client``, ``_add_usage`` and the two usage counters;
``tests/unit/test_autogen_private.py`` fails when one changes.
"""

import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from typing import Any, Literal, Self
from urllib.request import getproxies

import aiohttp
import httpx2
import openai
import openai.resources.chat.completions  # else the SDK loads it within the first request, which takes 40 ms
import orjson
from autogen_core import CancellationToken, FunctionCall
from autogen_core.models import CreateResult, LLMMessage, RequestUsage
from autogen_core.tools import Tool, ToolSchema
from autogen_ext.models._utils.normalize_stop_reason import normalize_stop_reason
from autogen_ext.models.openai import AzureOpenAIChatCompletionClient, OpenAIChatCompletionClient
from autogen_ext.models.openai._openai_client import BaseOpenAIChatCompletionClient, _add_usage
from pydantic import BaseModel

from worker.http1 import BODY, Connection, Transport
from worker.pacer import Pacer
from worker.sse import EventDecoder, EventTooLong
from worker.text_frame import TextFrame

Json = dict[str, Any]


class TextPiece(str):
    """Text that came together: ``tokens`` counts the model's pieces that it is made of."""

    __slots__ = ("tokens",)

    tokens: int

    def __new__(cls, text: str, tokens: int = 1) -> Self:
        piece = super().__new__(cls, text)
        piece.tokens = tokens
        return piece


class ReasoningText(TextPiece):
    """The same of what the model thought, as opposed to what it answers."""

    __slots__ = ()


class ToolCallPart(str):
    """A part of a tool call as it is streamed: no text, so that it does no harm where it is taken for some."""

    __slots__ = ("arguments", "id", "name", "position")

    position: int
    id: str
    name: str
    arguments: str

    def __new__(cls, position: int, id: str, name: str, arguments: str) -> "ToolCallPart":  # noqa: A002
        """``id`` and ``name`` come with the first part of a ``position``, ``arguments`` in any number of parts."""
        part = super().__new__(cls)
        part.position, part.id, part.name, part.arguments = position, id, name, arguments
        return part


class TokenLogprobs(str):
    """The log probabilities of the text just given, as OpenAI's ``logprobs.content``. No text itself."""

    __slots__ = ("content",)

    content: list[Json]

    def __new__(cls, content: list[Json]) -> "TokenLogprobs":
        """``content`` has an object per token."""
        piece = super().__new__(cls)
        piece.content = content
        return piece


class StreamBroken(Exception):
    """The model's stream is not what was agreed, or ended early. ``usage`` is what it had told by then."""

    def __init__(self, message: str, usage: RequestUsage) -> None:
        super().__init__(message)
        self.usage = usage


class ModelReported(Exception):
    """The model reported an error inside its stream; ``body`` is what it said."""

    def __init__(self, body: object) -> None:
        super().__init__("the model reported an error")
        self.body = body


class Reply:
    """What the chunks of one stream amount to so far."""

    def __init__(self) -> None:
        self.text: list[str] = []
        self.thought: list[str] = []
        self.calls: dict[int, FunctionCall] = {}
        self.finish_reason: str | None = None
        self.usage = RequestUsage(prompt_tokens=0, completion_tokens=0)

    def take(self, payload: bytes) -> list[str]:
        """Note a chunk and return its pieces of reasoning and text. Raises :class:`ModelReported`, ``ValueError``."""
        try:
            chunk = orjson.loads(payload)
        except orjson.JSONDecodeError:
            chunk = json.loads(payload)  # takes half surrogate pairs, NaN and infinities
        if not isinstance(chunk, dict):
            raise ValueError("a chunk is no object")
        if error := chunk.get("error"):
            raise ModelReported(error)
        usage = chunk.get("usage")
        if isinstance(usage, dict):
            self.usage = RequestUsage(int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0))
        choices = chunk.get("choices")
        return self._choice(choices[0]) if choices else []

    def _choice(self, choice: Json) -> list[str]:
        self.finish_reason = choice.get("finish_reason") or self.finish_reason
        delta: Json = choice.get("delta") or {}
        pieces: list[str] = []
        reasoning = delta.get("reasoning_content") or delta.get("reasoning")
        if isinstance(reasoning, str) and reasoning:
            self.thought.append(reasoning)
            pieces.append(ReasoningText(reasoning))
        text = delta.get("content") or delta.get("refusal")
        if isinstance(text, str) and text:
            self.text.append(text)
            pieces.append(TextPiece(text))
        logprobs = (choice.get("logprobs") or {}).get("content")
        if logprobs:
            pieces.append(TokenLogprobs(logprobs))
        pieces.extend(self._call(part) for part in delta.get("tool_calls") or ())
        return pieces

    def _call(self, part: Json) -> ToolCallPart:
        index = part.get("index")
        if index is None:  # some providers leave it out and send each call whole
            index = len(self.calls)
        call = self.calls.setdefault(index, FunctionCall(id="", arguments="", name=""))
        function: Json = part.get("function") or {}
        piece = ToolCallPart(index, part.get("id") or "", function.get("name") or "", function.get("arguments") or "")
        call.id += piece.id
        call.name += piece.name
        call.arguments += piece.arguments
        return piece

    def result(self) -> CreateResult:
        """The whole, once the stream has said that it is complete. Raises :class:`StreamBroken`."""
        if self.finish_reason is None:
            raise StreamBroken("the model's stream ended without a finish reason", self.usage)
        text = "".join(self.text)
        thought = "".join(self.thought) or None
        return CreateResult(
            finish_reason=normalize_stop_reason(self.finish_reason),
            content=list(self.calls.values()) if self.calls else text,
            usage=self.usage,
            cached=False,
            thought=(thought or text or None) if self.calls else thought,
        )


class Streaming(BaseOpenAIChatCompletionClient):
    """The stream, for both kinds of client."""

    _pacer: Pacer | None = None

    def read_together(self, pacer: Pacer) -> None:
        """Read all streams, from their first token on, when ``pacer`` says: text that came together is one piece."""
        self._pacer = pacer

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
        Takes what :meth:`tapped_stream` takes, and raises what it raises.
        """
        arguments = {
            "tools": tools,
            "tool_choice": tool_choice,
            "json_output": json_output,
            "extra_create_args": extra_create_args,
            "include_usage": include_usage,
        }
        async with aclosing(self.tapped_stream(None, messages, **arguments)) as stream:  # type: ignore[arg-type]
            async for piece in stream:
                yield piece

    async def tapped_stream(
        self,
        tap: Callable[[str, int], bool] | None,
        messages: Sequence[LLMMessage],
        *,
        tools: Sequence[Tool | ToolSchema] = [],
        tool_choice: Tool | Literal["auto", "required", "none"] = "auto",
        json_output: bool | type[BaseModel] | None = None,
        extra_create_args: Mapping[str, Any] = {},
        include_usage: bool | None = None,
    ) -> AsyncGenerator[str | CreateResult, None]:
        """As :meth:`create_stream`, but most text of a stream that is read together goes past the generator.

        ``tap`` is called with text, and with how many of the model's pieces that is, while the generator is waited for;
        it takes the text and returns true, or leaves it to the generator. ``json_output`` takes true, false or None; a
        schema goes into ``extra_create_args["response_format"]``.
        Raises the OpenAI SDK's errors, :class:`StreamBroken`, :class:`ModelReported`, and ``ValueError`` for what the
        model cannot do.
        """
        if isinstance(json_output, type):
            raise ValueError("json_output takes no class here: put the schema into response_format")
        params = self._process_create_args(messages, tools, tool_choice, json_output, extra_create_args)
        arguments = dict(params.create_args)
        if include_usage is not False:
            arguments.setdefault("stream_options", {"include_usage": True})
        if params.tools:
            arguments["tools"] = params.tools
        # The SDK's own pass over ``messages`` costs 0.4 ms a message and changes nothing: this goes around it.
        arguments["extra_body"] = {**(arguments.get("extra_body") or {}), "messages": params.messages}
        reply = Reply()
        completions: Any = self._client.chat.completions.with_streaming_response
        async with AsyncExitStack() as stack:

            async def ask() -> Any:
                return await stack.enter_async_context(completions.create(messages=[], stream=True, **arguments))

            try:
                response = await ask()
            except openai.APIConnectionError as error:
                if _is_timeout(error):
                    raise
                # It may have been a kept-alive connection that the server closed in the moment of asking.
                response = await _ask_again(ask)
            stream = _Stream(response.http_response, reply, self._pacer, tap)
            while (pieces := await stream.next()) is not None:
                for piece in pieces:
                    yield piece
        result = reply.result()
        self._total_usage = _add_usage(self._total_usage, result.usage)
        self._actual_usage = _add_usage(self._actual_usage, result.usage)
        yield result


async def _ask_again(ask: Callable[[], Awaitable[Any]]) -> Any:
    try:
        return await ask()
    except openai.APITimeoutError as error:
        if _is_timeout(error):
            raise
        raise openai.APIConnectionError(request=error.request) from error


def _is_timeout(error: BaseException) -> bool:
    """Whether time ran out: the SDK's aiohttp transport passes every lost connection for a connect timeout."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, aiohttp.ClientConnectionError):
            return isinstance(cause, TimeoutError)
        cause = cause.__cause__
    return isinstance(error, openai.APITimeoutError | httpx2.TimeoutException)


def _take(reply: Reply, payload: bytes) -> list[str]:
    try:
        return reply.take(payload)
    except (ValueError, TypeError, AttributeError, LookupError):
        raise StreamBroken("the model's stream holds something else than chunks", reply.usage) from None


class _Stream:
    """The stream's pieces up to ``[DONE]`` or its end, with the transport's errors as the SDK's."""

    def __init__(
        self,
        response: httpx2.Response,
        reply: Reply,
        pacer: Pacer | None,
        tap: Callable[[str, int], bool] | None,
    ) -> None:
        self._tap = tap
        self._frame = TextFrame()
        self._response = response
        self._reply = reply
        self._pacer = pacer
        self._decoder = EventDecoder()
        self._read, self._connection = _reader(response)
        self._done = False
        self._error: Exception | None = None

    async def next(self) -> list[str] | None:
        """The pieces that came next, at least one; None at the end. What came before an error is given first."""
        while not self._done and self._error is None:
            received = await self._receive()
            if pieces := self._pieces(received):
                if self._pacer is not None and self._connection is not None:
                    self._connection.pace(self._pacer, self._tapped if self._tap is not None else None)
                return joined(pieces) if len(pieces) > 1 else pieces
        if self._error is not None:
            raise self._error
        return None

    async def _receive(self) -> bytes:
        try:
            return await self._read()
        except httpx2.TransportError as error:
            if _is_timeout(error):
                raise openai.APITimeoutError(self._response.request) from error
            raise openai.APIConnectionError(request=self._response.request) from error

    def _pieces(self, received: bytes) -> list[str]:
        pieces: list[str] = []
        try:
            for payload in self._decoder.feed(received) if received else self._decoder.end():
                if payload == b"[DONE]":
                    self._done = True
                    break
                taken = _take(self._reply, payload)
                if len(taken) == 1 and type(taken[0]) is TextPiece:
                    self._frame.learn(payload, taken[0])
                pieces += taken
        except (StreamBroken, ModelReported) as error:
            self._error = error
        except EventTooLong:
            self._error = StreamBroken("the model's stream holds something else than chunks", self._reply.usage)
        self._done = self._done or not received
        return pieces

    def _tapped(self, received: bytes) -> bool:
        """Take what was received if it is text in whole events and nothing else."""
        assert self._tap is not None
        texts = self._frame.texts(received) if self._decoder.empty else None
        if texts is None:
            return False
        text = "".join(texts)
        if not self._tap(text, len(texts)):
            return False
        self._reply.text.append(text)
        return True


def joined(pieces: list[str]) -> list[str]:
    """``pieces`` with neighbouring text of one kind made one piece."""
    found: list[str] = []
    run: list[TextPiece] = []
    for piece in [*pieces, None]:
        if run and type(piece) is not type(run[0]):
            found.append(type(run[0])("".join(run), sum(part.tokens for part in run)))
            run = []
        if isinstance(piece, TextPiece):
            run.append(piece)
        elif piece is not None:
            found.append(piece)
    return found


def _reader(response: httpx2.Response) -> tuple[Callable[[], Awaitable[bytes]], Connection | None]:
    """What gives the body as it arrives, and nothing at its end.

    It is the connection itself, which is given too, where that is ours and nothing has to be decoded.
    """
    connection: Connection | None = response.extensions.get(BODY)
    if connection is not None and "content-encoding" not in response.headers:
        return connection.read, connection
    chunks = response.aiter_bytes()
    return lambda: anext(chunks, b""), None


def http_client() -> httpx2.AsyncClient:
    """What the SDK sends its requests with: where the environment has proxies, aiohttp, which uses them."""
    if {"http", "https", "all"} & getproxies().keys():
        return openai.DefaultAioHttpClient()
    return openai.DefaultAsyncHttpxClient(transport=Transport())


class StreamingOpenAIClient(Streaming, OpenAIChatCompletionClient):
    """Stands in for ``OpenAIChatCompletionClient``; same configuration."""

    def __init__(self, **config: Any) -> None:
        super().__init__(**{"http_client": http_client(), **config})


class StreamingAzureOpenAIClient(Streaming, AzureOpenAIChatCompletionClient):
    """Stands in for ``AzureOpenAIChatCompletionClient``; same configuration."""

    def __init__(self, **config: Any) -> None:
        super().__init__(**{"http_client": http_client(), **config})
