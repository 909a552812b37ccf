"""The client of Ollama's own API, ``/api/chat``, which stands in for AutoGen's under its provider name.

Ollama's other API, the one that is compatible with OpenAI's, has no word for ``num_ctx``, ``keep_alive``, ``top_k`` and
``think``, ignores ``max_completion_tokens``, sets a temperature of its own, and loses errors in a stream.

Private names used: ``BaseOllamaChatCompletionClient``, ``_add_usage`` and the two usage counters;
``tests/unit/fleet/bus/test_autogen_private.py`` fails when one changes.
"""

import os
from typing import Any, ClassVar, Literal, Self, cast
from urllib.parse import urlsplit

import httpx2
import orjson
from autogen_core import Component
from autogen_core.models import ModelInfo, RequestUsage
from autogen_ext.models.ollama._ollama_client import BaseOllamaChatCompletionClient, _add_usage
from pydantic import BaseModel, ConfigDict, create_model

from fleet.process.turns import Turns
from protos import chat_pb2 as pb
from worker.contract import refusals
from worker.contract.images import PIXELS, Images
from worker.contract.pushed import ForAgents
from worker.contract.sink import Sink
from worker.ollama.lines import LineDecoder
from worker.ollama.request import FIELDS, OPTIONS, Json, chat, fields
from worker.openai.completion import Completion
from worker.wire.pacer import Pacer
from worker.wire.streamed import http_client, receive

PORT = 11434

CONNECT_TIMEOUT = 5.0
"""Seconds. An answer may take longer than any default, because Ollama loads the model first."""

INFO = ModelInfo(
    vision=True,
    function_calling=True,
    json_output=True,
    structured_output=True,
    multiple_system_messages=True,
    family="unknown",
)
"""What a model is taken to be able to do where its entry does not say. Ollama knows better, and says so."""


class _Entry(BaseModel):
    """The configuration of AutoGen's client. ``response_format`` is the request's field, and no Python class."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    model: str
    host: str | None = None
    headers: dict[str, str] | None = None
    timeout: float | None = None
    follow_redirects: Literal[True] = True
    model_info: ModelInfo | None = None
    model_capabilities: dict[str, bool] | None = None
    options: dict[str, Any] | None = None
    response_format: dict[str, Any] | None = None
    extra_body: dict[str, Any] | None = None


_fields: Any = dict.fromkeys((*FIELDS, *OPTIONS), (Any, None))
OllamaConfig = create_model("OllamaConfig", __base__=_Entry, **_fields)
"""The same with what ``/api/chat`` takes, for every request that does not say otherwise."""


class OllamaClient(ForAgents, BaseOllamaChatCompletionClient, Component[_Entry]):
    """Stands in for ``OllamaChatCompletionClient``; same configuration."""

    provider_name: ClassVar[str] = "ollama"
    as_text: ClassVar[bool] = False
    component_type = "model"
    component_config_schema = OllamaConfig

    def __init__(self, **config: Any) -> None:
        entry = OllamaConfig(**config)
        http: Any = http_client()
        http.base_url = server_url(entry.host or os.environ.get("OLLAMA_HOST", ""))
        http.timeout = httpx2.Timeout(entry.timeout, connect=entry.timeout or CONNECT_TIMEOUT)
        http.headers.update(_headers(entry.headers or {}))
        info = entry.model_info or cast("ModelInfo", INFO | (entry.model_capabilities or {}))
        super().__init__(client=http, create_args={"model": entry.model}, model_info=info)
        self._http: httpx2.AsyncClient = http
        said = entry.model_dump(include={"options", "response_format", *FIELDS, *OPTIONS}, exclude_none=True)
        self._defaults = {"model": entry.model, "stream": True, **fields(said | (entry.extra_body or {}))}
        self._turns = Turns()
        self._images = Images(PIXELS)
        self._pacer: Pacer | None = None

    @classmethod
    def _from_config(cls, config: _Entry) -> Self:
        return cls(**config.model_dump(exclude_none=True))

    def work_in(self, turns: Turns, images: Images, pacer: Pacer | None) -> None:
        """Convert conversations in ``turns``, admit images by ``images``, and read streams when ``pacer`` says."""
        self._turns, self._images, self._pacer = turns, images, pacer

    async def stream(self, sink: Sink, body: Json) -> pb.Done:
        """See :class:`worker.contract.pushed.Pushed`.

        Raises httpx2's errors, :class:`ProviderRefused` and :class:`StreamBroken`.
        """
        response = await self._post(await self._request(body))
        del body
        done = await receive(response, lambda first: Completion(sink, first, LineDecoder()), sink, self._pacer)
        usage = RequestUsage(done.usage.prompt_tokens, done.usage.completion_tokens)
        self._total_usage = _add_usage(self._total_usage, usage)
        self._actual_usage = _add_usage(self._actual_usage, usage)
        return done

    async def close(self) -> None:
        await self._http.aclose()

    async def _request(self, body: Json) -> bytes:
        async with self._turns.turn() as turn:
            made, images = await chat(self._defaults, body, turn)
        admitted = await self._images.read([sent.images[sent.place] for sent in images])
        for sent, image in zip(images, admitted, strict=True):
            sent.images[sent.place] = image.to_base64()
        return orjson.dumps(made)

    async def _post(self, content: bytes) -> httpx2.Response:
        """The response to ``content``, whose body is not read. Raises :class:`ProviderRefused`."""
        response = await self._http.send(self._http.build_request("POST", "api/chat", content=content), stream=True)
        if response.is_success:
            return response
        raise refusals.read(refusals.content(await response.aread()), response.status_code, response.headers)


def server_url(host: str) -> str:
    """The server at ``host``, which may lack its scheme, its port, or all: Ollama listens on loopback then."""
    scheme, separator, rest = host.rpartition("://")
    found = urlsplit(f"{scheme or 'http'}://{rest}")
    name = found.hostname or "127.0.0.1"
    name = f"[{name}]" if ":" in name else name
    port = found.port or (None if separator else PORT)
    return f"{found.scheme}://{name}{f':{port}' if port else ''}{found.path.rstrip('/')}"


def _headers(headers: dict[str, str]) -> dict[str, str]:
    """With the key of Ollama's cloud, as Ollama's own client sends it."""
    named = {name.lower() for name in headers}
    key = os.environ.get("OLLAMA_API_KEY")
    ours = {"content-type": "application/json"} | ({"authorization": f"Bearer {key}"} if key else {})
    return {name: value for name, value in ours.items() if name not in named} | headers
