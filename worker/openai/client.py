"""AutoGen's OpenAI clients with a stream that can be trusted and costs little: drop-in subclasses for the stock ones.

What differs from AutoGen 0.7.5's ``create_stream``: the HTTP response is closed whenever the generator is, so that a
cancelled chat stops the model; reasoning comes as ``ReasoningText``, not between tags in the text; a stream that ends
without a finish reason raises ``StreamBroken`` instead of passing for a reply; finish reason and usage are taken from
whichever chunk has them; the stream's bytes are decoded in :mod:`worker.openai.completion`, not by the SDK's models,
and read through :mod:`worker.wire.connection`; requests are made like earlier ones
(:mod:`worker.openai.request_head`). Private parts used:
``_process_create_args``, ``_client``, ``_add_usage`` and the two usage counters;
``tests/unit/fleet/bus/test_autogen_private.py`` fails when one changes.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from typing import Any, Literal
from urllib.request import getproxies

import httpx2
import openai
import openai.resources.chat.completions  # else the SDK loads it within the first request, which takes 40 ms
from autogen_core import CancellationToken
from autogen_core.models import CreateResult, LLMMessage
from autogen_core.tools import Tool, ToolSchema
from autogen_ext.models.openai import AzureOpenAIChatCompletionClient, OpenAIChatCompletionClient
from autogen_ext.models.openai._openai_client import BaseOpenAIChatCompletionClient, _add_usage
from pydantic import BaseModel

from fleet.process.turns import Turns
from worker.openai.completion import PIECES, Reply, Stream
from worker.openai.request import Request, build
from worker.openai.request_head import PreparedRequests
from worker.wire.answers import Bounded, bound
from worker.wire.connection import Transport
from worker.wire.pacer import Pacer
from worker.wire.proxied import Proxied


class Streaming(BaseOpenAIChatCompletionClient):
    """The stream, for both kinds of client."""

    _pacer: Pacer | None = None
    _prepared: PreparedRequests | None = None
    _own_headers: Mapping[str, str] | None = None
    _turns: Turns | None = None

    def work_in(self, turns: Turns) -> None:
        """Convert conversations in these turns, beside other long work on the loop."""
        self._turns = turns

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
        keep: bool = True,
    ) -> AsyncGenerator[str | CreateResult, None]:
        """As :meth:`create_stream`, but most text of a stream that is read together goes past the generator.

        ``tap`` is called with text, and with how many of the model's pieces that is, while the generator is waited for;
        it takes the text and returns true, or leaves it to the generator. Without ``keep`` the result holds no text and
        no arguments of tool calls: memory does not grow with the reply. ``json_output`` takes true, false or None; a
        schema goes into ``extra_create_args["response_format"]``.
        Raises the OpenAI SDK's errors, :class:`StreamBroken`, :class:`ModelReported`, and ``ValueError`` for what the
        model cannot do.
        """
        if isinstance(json_output, type):
            raise ValueError("json_output takes no class here: put the schema into response_format")
        turns = self._turns or Turns()
        request = await build(self, turns, messages, tools, tool_choice, json_output, extra_create_args)
        if include_usage is not False:
            request.arguments.setdefault("stream_options", {"include_usage": True})
        del messages, tools, tool_choice, extra_create_args  # a conversation is not kept for as long as its reply takes
        reply = Reply(keep)
        async with AsyncExitStack() as stack:
            response = await self._ask(stack, request)
            del request
            stream = Stream(response, reply, self._pacer, tap)
            while (pieces := await stream.next()) is not None:
                for number, piece in enumerate(pieces, 1):
                    yield piece
                    if not number % PIECES:
                        await asyncio.sleep(0)
        result = reply.result()
        self._total_usage = _add_usage(self._total_usage, result.usage)
        self._actual_usage = _add_usage(self._actual_usage, result.usage)
        yield result

    async def _ask(self, stack: AsyncExitStack, request: Request) -> httpx2.Response:
        """Send a request; its response is closed with ``stack``."""
        if self._prepared is None:
            self._prepared = PreparedRequests(self._client, self._own_headers)
        response = await self._prepared.send(request)
        if response is not None:
            stack.push_async_callback(response.aclose)
            return response
        return await self._prepared.send_by_sdk(request, stack)


def http_client() -> httpx2.AsyncClient:
    """What the SDK sends its requests with: where the environment has proxies, aiohttp, which uses them."""
    if {"http", "https", "all"} & getproxies().keys():
        client: httpx2.AsyncClient = openai.DefaultAioHttpClient()
        bound(client, lambda inner: Bounded(Proxied(inner)))
    else:
        client = openai.DefaultAsyncHttpxClient(transport=Transport())
        bound(client, Bounded)
    return client


class StreamingOpenAIClient(Streaming, OpenAIChatCompletionClient):
    """Stands in for ``OpenAIChatCompletionClient``; same configuration."""

    def __init__(self, **config: Any) -> None:
        super().__init__(**{"http_client": http_client(), **config})
        self._own_headers = config.get("default_headers")


class StreamingAzureOpenAIClient(Streaming, AzureOpenAIChatCompletionClient):
    """Stands in for ``AzureOpenAIChatCompletionClient``; same configuration."""

    def __init__(self, **config: Any) -> None:
        super().__init__(**{"http_client": http_client(), **config})
