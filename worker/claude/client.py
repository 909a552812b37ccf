"""AutoGen's client for Claude with requests, streams and errors of our own: it stands in for the stock one.

Differences from AutoGen 0.7.5, whose client fails with the SDK's second version: nothing is shared between requests
(the stock one sends the tools of the request before), every option is translated or refused by name, schemas keep all
they have, thinking is told apart from text, and a stream without its end raises ``StreamBroken``.

The SDK knows the key, the address and the timeouts; requests go out through its public ``post``, as bytes. Private
names used: ``_client``, ``_add_usage`` and the two usage counters; ``tests/unit/fleet/bus/test_autogen_private.py``
fails when one changes.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Self, cast

import anthropic
import httpx2
import orjson
from autogen_core import Component
from autogen_core.models import ModelFamily, ModelInfo, RequestUsage
from autogen_ext.models.anthropic._anthropic_client import BaseAnthropicChatCompletionClient, _add_usage
from pydantic import BaseModel, ConfigDict, SecretStr

from fleet.process.turns import Turns
from protos import chat_pb2 as pb
from worker.claude.events import MessageDecoder
from worker.claude.request import SAMPLING, Json, fields, request
from worker.claude.tools import choice
from worker.contract.images import Images
from worker.contract.pushed import ForAgents
from worker.contract.sink import Sink
from worker.openai.completion import Completion
from worker.wire.pacer import Pacer
from worker.wire.streamed import STREAMED, http_client, receive

MAX_TOKENS = 32_000
"""Tokens of a reply where neither the request nor the entry says: Claude's API wants a number, and every model since
Claude 4 can write as many."""

INFO = ModelInfo(
    vision=True,
    function_calling=True,
    json_output=True,
    structured_output=True,
    multiple_system_messages=False,
    family=ModelFamily.UNKNOWN,
)
"""What a model is taken to be able to do where its entry does not say. Claude knows better, and says so."""

_VERSION = "anthropic-version"


class ClaudeConfig(BaseModel):
    """The configuration of AutoGen's client, and what the Messages API has learned since."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    model: str
    api_key: SecretStr | None = None
    auth_token: SecretStr | None = None
    base_url: str | None = None
    timeout: float | None = None
    max_retries: int = 0
    default_headers: dict[str, str] | None = None
    default_query: dict[str, str] | None = None
    model_info: dict[str, bool | str] | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop_sequences: list[str] | None = None
    metadata: dict[str, str] | None = None
    thinking: Json | None = None
    response_format: Json | None = None
    output_config: Json | None = None
    service_tier: str | None = None
    tools: list[Json] | None = None
    tool_choice: str | Json | None = None
    extra_body: Json | None = None


_SDK = {"base_url", "timeout", "max_retries", "default_headers", "default_query"}
"""Keys of an entry that are the SDK's, beside its secrets."""

_REQUEST = ClaudeConfig.model_fields.keys() - {
    *_SDK,
    "api_key",
    "auth_token",
    "extra_body",
    "model",
    "model_info",
    "tool_choice",
    "tools",
}
"""Keys that are a request's."""


class ClaudeClient(ForAgents, BaseAnthropicChatCompletionClient, Component[ClaudeConfig]):
    """Stands in for ``AnthropicChatCompletionClient``; same configuration."""

    provider_name: ClassVar[str] = "anthropic"
    component_type = "model"
    as_text: ClassVar[bool] = False
    component_config_schema = ClaudeConfig

    def __init__(self, **config: Any) -> None:
        self._config = entry = ClaudeConfig(**config)
        sdk: dict[str, Any] = entry.model_dump(include=_SDK, exclude_none=True)
        client = anthropic.AsyncAnthropic(
            http_client=http_client(), api_key=_plain(entry.api_key), auth_token=_plain(entry.auth_token), **sdk
        )
        headers = {name.lower() for name in [*client.auth_headers, *client.default_headers]}
        if client.credentials is None and not headers & {"authorization", "x-api-key"}:
            raise ValueError("api_key: is missing, here and in ANTHROPIC_API_KEY")
        info = cast("ModelInfo", {**INFO, **(entry.model_info or {})})
        super().__init__(client=client, create_args={"model": entry.model}, model_info=info)
        said = entry.model_dump(include=_REQUEST, exclude_none=True)
        self._defaults: Json = {"model": entry.model, "max_tokens": MAX_TOKENS, **fields(said)}
        if entry.tools:
            self._defaults["tools"] = entry.tools
        if chosen := choice(entry.tool_choice, parallel=True):
            self._defaults["tool_choice"] = chosen
        self._in_place = bool(self.model_info.get("multiple_system_messages"))
        self._turns = Turns()
        self._pacer: Pacer | None = None

    def work_in(self, turns: Turns, images: Images, pacer: Pacer | None) -> None:
        """Translate requests in ``turns``, and read streams when ``pacer`` says. Claude itself admits images or not."""
        self._turns = turns
        self._pacer = pacer

    async def stream(self, sink: Sink, body: Json) -> pb.Done:
        """Write the model's reply into ``sink``, and return how it ended. Cancelling closes the connection.

        Raises :class:`Unsupported` for what Claude has no word for, the SDK's errors, httpx2's once the response has
        begun, :class:`StreamBroken` and :class:`ModelReported`.
        """
        async with self._turns.turn() as turn:
            asked = await request(
                self._defaults, body, turn, in_place=bool(self.model_info.get("multiple_system_messages"))
            )
        response = await self._post({**asked, "stream": True, **(self._config.extra_body or {})})
        del body, asked  # a conversation must not outlive its request
        done = await receive(response, lambda first: Completion(sink, first, MessageDecoder()), sink, self._pacer)
        usage = RequestUsage(done.usage.prompt_tokens, done.usage.completion_tokens)
        self._total_usage = _add_usage(self._total_usage, usage)
        self._actual_usage = _add_usage(self._actual_usage, usage)
        return done

    async def _post(self, asked: Json) -> httpx2.Response:
        """Send a request; return the response, whose body is not read."""
        headers = dict(STREAMED)
        client: anthropic.AsyncAnthropic = self._client
        if SAMPLING & asked.keys() and not _names(self._config.default_headers, _VERSION):
            headers[_VERSION] = "2023-06-01"
        response: httpx2.Response = await client.post(
            "/v1/messages",
            cast_to=httpx2.Response,
            content=orjson.dumps(asked),
            options={"headers": {**headers, "content-type": "application/json"}},
        )
        return response

    def _to_config(self) -> ClaudeConfig:
        return self._config

    @classmethod
    def _from_config(cls, config: ClaudeConfig) -> Self:
        return cls(**dict(config))


def _names(headers: Mapping[str, str] | None, name: str) -> bool:
    return name in map(str.lower, headers or ())


def _plain(secret: SecretStr | None) -> str | None:
    return secret.get_secret_value() or None if secret is not None else None
