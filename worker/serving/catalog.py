"""The models that a worker serves, loaded from ``models.yaml``.

An entry is an AutoGen component config (``provider``, ``config``) plus ``system_message``; ``${VAR}`` and
``${VAR:-default}`` in its strings come from the environment, ``$$`` is a dollar.
"""

import difflib
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import httpx2
import yaml
from autogen_core.models import ChatCompletionClient, ModelInfo
from pydantic import ValidationError

from worker.contract.route import Route, route
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
    "autogen_ext.models.ollama.OllamaChatCompletionClient": "worker.ollama.client.OllamaClient",
    "OllamaChatCompletionClient": "worker.ollama.client.OllamaClient",
}
"""The same for Ollama's, which has no retries to turn off."""

CLAUDE = {
    "autogen_ext.models.anthropic.AnthropicChatCompletionClient": "worker.claude.client.ClaudeClient",
    "AnthropicChatCompletionClient": "worker.claude.client.ClaudeClient",
}
"""The same for Claude's, whose SDK retries only if its entry says so."""

ANTHROPIC = "autogen_ext.models.anthropic."
"""Prefix of further clients whose SDK retries by itself, as OpenAI's does."""

_ONE_LINE = re.compile(
    r"\.config\.(api_key|api_version|organization|project|(?P<url>base_url|host|azure_\w+)|(default_)?headers\..+)$"
)
"""Values that become part of a header or a URL."""

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
    route: Route = field(default_factory=Route)


def load_models(path: Path, environment: Mapping[str, str] = os.environ) -> dict[str, Model]:
    """Every entry of the file at ``path`` by its public name, in the file's order: the first is the default.

    Raises :class:`ModelsError`. No network is used.
    """
    try:
        document = yaml.load(path.read_text(encoding="utf-8"), _Loader)  # noqa: S506 it is a safe one
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


class _Loader(yaml.SafeLoader):
    """Refuses mappings that name a key twice, where YAML's own takes the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"{key.value} is there twice", key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)


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
    client = _client(where, provider, config)
    return Model(name, client, system_message, endpoints, route(provider, config, client))


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
    ours = (STREAMING | OLLAMA | CLAUDE).get(provider, provider)
    _check_names(f"{where}.config", config, _class(f"{where}.provider", provider, ours))
    try:
        client = ChatCompletionClient.load_component({"provider": ours, "component_type": "model", "config": config})
        _bound(client)
        _clean_key(where, client)
        return client
    except ModelsError:
        raise
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in problem["loc"])
        raise ModelsError(f"{where}.config.{field}: {problem['msg']}") from None
    except Exception as error:  # a component's constructor may raise anything
        raise ModelsError(f"{where}.config: {_first_line(error)}") from None


def _class(where: str, provider: str, ours: str) -> type[ChatCompletionClient]:
    module, _, name = ours.rpartition(".")
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        offered = ", ".join(name for name in (*STREAMING, *OLLAMA, *CLAUDE) if "." in name)
        raise ModelsError(
            f"{where}: {provider} cannot be loaded: {error}; there are {offered}, and any other of AutoGen's clients "
            "by its module and class"
        ) from None
    if not isinstance(found, type) or not issubclass(found, ChatCompletionClient):
        raise ModelsError(f"{where}: {provider} is no AutoGen chat completion client")
    return found


def _check_names(where: str, config: dict[str, Any], component: Any) -> None:
    """Refuse names that the client would ignore."""
    more: frozenset[str] = getattr(component, "more_config", frozenset())
    _check_known(where, config, component.component_config_schema.model_fields.keys() | more)
    info = config.get("model_info")
    if isinstance(info, dict):
        _check_known(f"{where}.model_info", info, ModelInfo.__annotations__)


def _check_known(where: str, given: Iterable[Any], known: Iterable[str]) -> None:
    for name in map(str, given):
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hints = [f"did you mean {near[0]}?"] if near else []
            if "extra_body" in known:
                hints.append("further fields of a provider's API go into extra_body")
            elif not near:
                hints.append(f"these are: {', '.join(sorted(known))}")
            raise ModelsError(f"{where}.{name}: is not known here; {' '.join(hints)}")


def _clean_key(where: str, client: ChatCompletionClient) -> None:
    """Clean a key that the provider's SDK found in the environment by itself."""
    sdk = getattr(client, "_client", None)
    key = getattr(sdk, "api_key", None)
    if sdk is not None and isinstance(key, str) and key:
        sdk.api_key = _one_line(key, f"{where}.config.api_key", "the key of the environment")


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
            text = _VARIABLE.sub(lambda found: _variable(found, where, environment), value)
            names = [found[2] for found in _VARIABLE.finditer(value) if found[2]]
            return _one_line(text, where, " or ".join(names) or "the value") if _ONE_LINE.search(where) else text
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
    return value.rstrip("\r\n")  # which mounted files end in


def _one_line(text: str, where: str, source: str) -> str:
    """``text`` without the space around it. ``source`` is where it comes from, for the error."""
    text = text.strip()
    is_url = (found := _ONE_LINE.search(where)) is not None and found["url"]
    if not text.isprintable() or not (text.isascii() or is_url):
        raise ModelsError(f"{where}: {source} holds a character that no header or URL may have, such as a line end")
    return text
