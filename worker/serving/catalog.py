"""The models that a worker serves, loaded from ``models.yaml``.

An entry is an AutoGen component config (``provider``, ``config``) plus ``system_message``; ``${VAR}`` and
``${VAR:-default}`` in its strings come from the environment, ``$$`` is a dollar.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import yaml
from autogen_core.models import ChatCompletionClient
from pydantic import ValidationError

from worker.services.endpoints import CHAT, PASSED_ON
from worker.wire.answers import Bounded, bound

STREAMING = {
    "autogen_ext.models.openai.OpenAIChatCompletionClient": "worker.openai.client.StreamingOpenAIClient",
    "OpenAIChatCompletionClient": "worker.openai.client.StreamingOpenAIClient",
    "openai_chat_completion_client": "worker.openai.client.StreamingOpenAIClient",
    "autogen_ext.models.openai.AzureOpenAIChatCompletionClient": "worker.openai.client.StreamingAzureOpenAIClient",
    "AzureOpenAIChatCompletionClient": "worker.openai.client.StreamingAzureOpenAIClient",
    "azure_openai_chat_completion_client": "worker.openai.client.StreamingAzureOpenAIClient",
}
"""Stock providers, and our subclass of each, whose stream can be pushed."""

OLLAMA = {
    "autogen_ext.models.ollama.OllamaChatCompletionClient": "worker.services.ollama_client.BytesOllamaClient",
    "OllamaChatCompletionClient": "worker.services.ollama_client.BytesOllamaClient",
}
"""The same for Ollama's, whose subclass passes images on as bytes."""

ANTHROPIC = "autogen_ext.models.anthropic."
"""Prefix of clients whose SDK retries by itself, as OpenAI's does."""

NO_CHAT = {
    **dict.fromkeys(("vision", "function_calling", "json_output", "structured_output"), False),
    "family": "unknown",
}

_VARIABLE = re.compile(r"\$(?:(\$)|\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\})")


class ModelsError(Exception):
    """``models.yaml`` cannot be used; its text is one line that names the file, the entry and the field."""


@dataclass(frozen=True)
class Model:
    """A public model name and its client."""

    name: str
    client: ChatCompletionClient
    system_message: str = ""
    endpoints: tuple[str, ...] = (CHAT,)


def load_models(path: Path, environment: Mapping[str, str] = os.environ) -> dict[str, Model]:
    """Every entry of the file at ``path`` by its public name, in the file's order: the first is the default.

    Raises :class:`ModelsError`. No network is used.
    """
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelsError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ModelsError(f"{path}: is not UTF-8 text") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 1})" if mark else ""
        raise ModelsError(f"{path}: is not YAML{where}: {getattr(error, 'problem', error)}") from None
    except (ValueError, RecursionError) as error:
        raise ModelsError(f"{path}: is not YAML: {_first_line(error)}") from None
    if not isinstance(document, dict) or not isinstance(document.get("models"), dict) or not document["models"]:
        raise ModelsError(f"{path}: models: must map at least one public model name to its entry")
    models = {
        str(name): _load(f"{path}: models.{name}", str(name), entry, environment)
        for name, entry in document["models"].items()
    }
    default = next(iter(models.values()))
    if CHAT not in default.endpoints:
        raise ModelsError(f"{path}: models.{default.name}.endpoints: must have chat: the first entry is the default")
    return models


def _load(where: str, name: str, entry: Any, environment: Mapping[str, str]) -> Model:
    if not isinstance(entry, dict):
        raise ModelsError(f"{where}: must have provider and config")
    if unknown := set(entry) - {"provider", "config", "system_message", "endpoints"}:
        raise ModelsError(
            f"{where}.{min(map(str, unknown))}: is not known here; provider, config, system_message and endpoints are"
        )
    entry = expand(entry, where, environment)
    provider, config = entry.get("provider"), entry.get("config", {})
    system_message = entry.get("system_message") or ""
    if not isinstance(provider, str) or not provider:
        raise ModelsError(f"{where}.provider: must name an AutoGen chat completion client")
    if not isinstance(config, dict):
        raise ModelsError(f"{where}.config: must be a mapping")
    if not isinstance(system_message, str):
        raise ModelsError(f"{where}.system_message: must be text")
    endpoints = _endpoints(where, provider, entry.get("endpoints", [CHAT]))
    if CHAT not in endpoints:  # what a model can do in a chat need not be said then
        config = {"model_info": NO_CHAT, **config}
    return Model(name, _client(where, provider, config), system_message, endpoints)


def _endpoints(where: str, provider: str, names: Any) -> tuple[str, ...]:
    known = (CHAT, *PASSED_ON)
    if not isinstance(names, list) or not names:
        raise ModelsError(f"{where}.endpoints: must be a list of {', '.join(known)}")
    for name in names:
        if name not in known:
            raise ModelsError(f"{where}.endpoints: {name!r} is not known here; {', '.join(known)} are")
        if name != CHAT and provider not in STREAMING:
            raise ModelsError(f"{where}.endpoints: {name} is only for OpenAI-compatible and Azure clients")
    return tuple(dict.fromkeys(names))


def _client(where: str, provider: str, config: dict[str, Any]) -> ChatCompletionClient:
    if provider in STREAMING or provider.startswith(ANTHROPIC):
        # The gateway retries: it knows the deadline and the other workers.
        config = {"max_retries": 0, **config}
    component = {"provider": (STREAMING | OLLAMA).get(provider, provider), "component_type": "model", "config": config}
    try:
        client = ChatCompletionClient.load_component(component)
        _bound(client)
        return client
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in problem["loc"])
        raise ModelsError(f"{where}.config.{field}: {problem['msg']}") from None
    except (ImportError, AttributeError) as error:
        raise ModelsError(f"{where}.provider: {provider} cannot be loaded: {error}") from None
    except Exception as error:  # a component's constructor may raise anything
        raise ModelsError(f"{where}.config: {_first_line(error)}") from None


def _bound(client: ChatCompletionClient) -> None:
    """Limit what a client accepts from its server, if its HTTP client is where the SDKs have it."""
    http: Any = getattr(getattr(client, "_client", None), "_client", None)
    if isinstance(http, httpx2.AsyncClient) and not isinstance(http._transport, Bounded):
        bound(http, lambda inner: Bounded(inner, lines=True))


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def expand(value: Any, where: str, environment: Mapping[str, str]) -> Any:
    """``value`` with the environment's variables put into every string of it."""
    match value:
        case str():
            return _VARIABLE.sub(lambda found: _variable(found, where, environment), value)
        case dict():
            return {key: expand(item, f"{where}.{key}", environment) for key, item in value.items()}
        case list():
            return [expand(item, f"{where}[{index}]", environment) for index, item in enumerate(value)]
        case _:
            return value


def _variable(found: re.Match[str], where: str, environment: Mapping[str, str]) -> str:
    dollar, name, default = found.groups()
    if dollar:
        return "$"
    value = environment.get(name) or default
    if value is None:
        raise ModelsError(f"{where}: the environment has no {name}")
    return value
