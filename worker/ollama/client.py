"""The client of Ollama's own API, ``/api/chat``, which stands in for AutoGen's under its provider name.

Ollama's other API, the one that is compatible with OpenAI's, has no word for ``num_ctx``, ``keep_alive``, ``top_k`` and
``think``, ignores ``max_completion_tokens``, sets a temperature of its own, and loses errors in a stream.

Private names used: ``BaseOllamaChatCompletionClient``, ``_add_usage``, the two usage counters and ``_model_info``;
``tests/unit/fleet/bus/test_autogen_private.py`` fails when one changes.
"""

import os
from collections.abc import Mapping
from typing import Any, Self
from urllib.parse import urlsplit

import httpx2
import orjson
from autogen_core import Component
from autogen_core.models import ModelInfo, RequestUsage
from autogen_ext.models.ollama._model_info import get_info
from autogen_ext.models.ollama._ollama_client import BaseOllamaChatCompletionClient, _add_usage
from pydantic import BaseModel, ConfigDict

from fleet.process.turns import Turns
from protos import chat_pb2 as pb
from worker.contract.errors import ProviderRefused, Unsupported
from worker.contract.images import Images
from worker.contract.sink import Sink
from worker.ollama.lines import LineDecoder
from worker.ollama.request import Json, chat, options_of
from worker.openai.completion import Completion
from worker.wire.pacer import Pacer
from worker.wire.streamed import http_client, receive

PORT = 11434

CONNECT_TIMEOUT = 5.0
"""Seconds. An answer may take longer than any default, because Ollama loads the model first."""

_ANY = ModelInfo(
    vision=True,
    function_calling=True,
    json_output=True,
    structured_output=True,
    multiple_system_messages=True,
    family="unknown",
)
"""What a model is taken to be able to do that AutoGen does not know: Ollama knows, and says so."""


class OllamaConfig(BaseModel):
    """The configuration of AutoGen's client, and beside it the fields of ``/api/chat`` and its options."""

    model_config = ConfigDict(extra="allow")

    model: str
    host: str | None = None
    headers: Mapping[str, str] | None = None
    timeout: float | None = None
    model_info: ModelInfo | None = None
    options: Mapping[str, Any] | None = None
