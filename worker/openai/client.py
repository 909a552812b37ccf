"""AutoGen's OpenAI clients with a stream that is written into a sink: drop-in subclasses for the stock ones.

Differences from AutoGen 0.7.5: :meth:`Streaming.stream` takes a request's body and sends it as it is; the HTTP response
is closed whenever the stream is abandoned, so that a cancelled run stops the model; reasoning is told apart from text;
a stream without a finish reason raises ``StreamBroken``; finish reason and usage are taken from whichever chunk has
them; chunks are decoded in :mod:`worker.openai.completion`, not by the SDK's models. Requests go out through the SDK's
public ``post``, as bytes: its own pass over a conversation blocks the event loop for 0.4 ms a message.

Private names used: ``_create_args``, ``_add_name_prefixes``, ``_include_name_in_message``, ``_client``, ``_add_usage``
and the two usage counters; ``tests/unit/fleet/bus/test_autogen_private.py`` fails when one changes.
"""

from functools import partial
from typing import Any, ClassVar
from urllib.parse import quote

import httpx2
import openai
import openai.resources.chat.completions  # else the SDK loads it within the first request, which takes 40 ms
import orjson
from autogen_core.models import RequestUsage
from autogen_ext.models.openai import AzureOpenAIChatCompletionClient, OpenAIChatCompletionClient
from autogen_ext.models.openai._openai_client import BaseOpenAIChatCompletionClient, _add_usage

from protos import chat_pb2 as pb
from worker.contract.pushed import ForAgents
from worker.contract.sink import Sink
from worker.openai.answer import Events, Whole
from worker.openai.completion import Completion
from worker.openai.config import CREATE, AzureConfig, OpenAIConfig
from worker.openai.request import Json, completed, with_prefixes, without_names
from worker.wire.pacer import Pacer
from worker.wire.streamed import STREAMED, http_client, receive

_CHAT = "chat/completions"


class Streaming(ForAgents, BaseOpenAIChatCompletionClient):
    """The stream, for both kinds of client."""

    provider_name: ClassVar[str] = "openai"
    as_text: ClassVar[bool] = True
    more_config: ClassVar[frozenset[str]] = CREATE
    """Names that a configuration may have beside those of its schema."""
    _pacer: Pacer | None = None

    def __init__(self, **config: Any) -> None:
        super().__init__(**{"http_client": http_client(), **config})

    def read_by(self, pacer: Pacer | None) -> None:
        """Read streams when ``pacer`` says, from their first delta on."""
        self._pacer = pacer

    async def stream(self, sink: Sink, body: Json) -> pb.Done:
        """See :class:`worker.contract.pushed.Pushed`.

        Raises the OpenAI SDK's errors, httpx2's once the response has begun, :class:`StreamBroken` and
        :class:`ModelReported`.
        """
        if self._add_name_prefixes:
            with_prefixes(body["messages"])
        if not self._include_name_in_message:
            without_names(body["messages"])
        body = completed(body, self._create_args)
        response = await self._post(_CHAT, body)
        del body
        done = await receive(response, partial(Completion, sink), sink, self._pacer)
        usage = RequestUsage(done.usage.prompt_tokens, done.usage.completion_tokens)
        self._total_usage = _add_usage(self._total_usage, usage)
        self._actual_usage = _add_usage(self._actual_usage, usage)
        return done

    async def pass_on(self, sink: Sink, endpoint: str, body: Json, name: str, *, streamed: bool) -> pb.Done:
        """Ask the model at another endpoint, and write its answer as it comes, with ``name`` for the model's.

        ``body`` has the request's fields without ``model``; ``streamed`` says whether they ask for events. Cancelling
        closes the connection. Raises what :meth:`stream` raises.
        """
        given = self._create_args
        # The model is the last member, so that it wins over a "Model" at servers that ignore case.
        response = await self._post(endpoint, {**(given.get("extra_body") or {}), **body, "model": given["model"]})
        del body
        are_events = response.headers.get("content-type", "").startswith("text/event-stream")
        kind = partial(Events, sink, name) if streamed and are_events else partial(Whole, sink, name, streamed)
        return await receive(response, kind, sink, self._pacer)

    async def _post(self, endpoint: str, body: Json) -> httpx2.Response:
        """Send a request; return the response, whose body is not read."""
        client: openai.AsyncOpenAI = self._client
        response: httpx2.Response = await client.post(
            _path(client, endpoint, body),
            cast_to=httpx2.Response,
            content=orjson.dumps(body),
            options={"headers": STREAMED},
        )
        return response


def _path(client: openai.AsyncOpenAI, endpoint: str, body: Json) -> str:
    """Where an endpoint is. An Azure client without a deployment has one for each model."""
    if isinstance(client, openai.AsyncAzureOpenAI) and "/deployments" not in client.base_url.path:
        return f"/deployments/{quote(str(body.get('model')), safe='')}/{endpoint}"
    return f"/{endpoint}"


class StreamingOpenAIClient(Streaming, OpenAIChatCompletionClient):
    """Stands in for ``OpenAIChatCompletionClient``."""

    component_config_schema = OpenAIConfig  # type: ignore[assignment]


class StreamingAzureOpenAIClient(Streaming, AzureOpenAIChatCompletionClient):
    """Stands in for ``AzureOpenAIChatCompletionClient``."""

    provider_name: ClassVar[str] = "azure.ai.openai"
    component_config_schema = AzureConfig  # type: ignore[assignment]
