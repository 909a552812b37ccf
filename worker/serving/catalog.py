"""The models that a worker serves, loaded from ``models.yaml``.

An entry is an AutoGen component config (``provider``, ``config``) plus ``system_message``; ``${VAR}`` and
``${VAR:-default}`` in its strings come from the environment, ``$$`` is a dollar.
"""

import difflib
import os
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import httpx2
from autogen_core import ComponentBase
from autogen_core.models import ChatCompletionClient, ModelInfo
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from worker.contract.route import Route, route
from worker.services.endpoints import CHAT, PASSED_ON
from worker.serving.document import Concurrency, DocumentError, checked, read
from worker.serving.offer import DESCRIPTION
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

OURS = STREAMING | OLLAMA | CLAUDE

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
    """A model's name and its client. Only agents know an ``internal`` one."""

    name: str
    client: ChatCompletionClient
    system_message: str = ""
    endpoints: tuple[str, ...] = (CHAT,)
    route: Route = field(default_factory=Route)
    internal: bool = False
    description: str = ""
    concurrency: int | None = None
    made_of: Any = field(default=None, repr=False)
    """The entry as it is in the file, with the variables put in, and the environment where it may depend on that."""


class _Entry(BaseModel):
    """An entry as it is written."""

    model_config = ConfigDict(extra="forbid", strict=True)

    provider: str = Field(min_length=1)
    config: dict[str, Any] = {}
    system_message: str | None = None
    endpoints: Any = [CHAT]
    internal: bool = False
    description: str = Field(default="", max_length=DESCRIPTION)
    concurrency: Concurrency = None


def load_models(
    path: Path, environment: Mapping[str, str] = os.environ, before: Mapping[str, Model] | None = None
) -> dict[str, Model]:
    """Every entry of the file at ``path`` by its name, in the file's order: the first public one is the default.

    One whose entry is as ``before`` is the same object. Raises :class:`ModelsError`. No network is used.
    """
    try:
        document = read(path)
    except DocumentError as error:
        raise ModelsError(str(error)) from None
    if not isinstance(document, dict) or not isinstance(document.get("models"), dict) or not document["models"]:
        raise ModelsError(f"{path}: models: must map at least one public model name to its entry")
    for name in map(str, document):
        if name != "models" and not name.startswith("x-"):
            raise ModelsError(
                f"{path}: {name}: is not known here; models is, and names that begin with x-, for anchors"
            )
    models = {
        str(name): _load(f"{path}: models.{name}", str(name), entry, environment, (before or {}).get(str(name)))
        for name, entry in document["models"].items()
    }
    default = next((model for model in models.values() if not model.internal), None)
    if default is not None and CHAT not in default.endpoints:
        raise ModelsError(f"{path}: models.{default.name}.endpoints: must have chat: the first entry is the default")
    return models


def _load(where: str, name: str, entry: Any, environment: Mapping[str, str], before: Model | None) -> Model:
    if not name:
        raise ModelsError(f"{where}: must have a name")
    entry = expand(entry, where, environment)
    made_of = entry, None if _has_key(entry) else dict(environment)
    if before is not None and before.made_of == made_of:
        return before
    try:
        given = checked(where, _Entry, entry)
    except DocumentError as error:
        raise ModelsError(str(error)) from None
    config = given.config
    endpoints = _endpoints(where, given.provider, given.endpoints)
    if CHAT not in endpoints:  # what a model can do in a chat need not be said then
        config = {"model_info": NO_CHAT, **config}
    made = client(where, given.provider, config)
    return Model(
        name,
        made,
        given.system_message or "",
        endpoints,
        route(given.provider, config, made),
        given.internal,
        given.description,
        given.concurrency,
        made_of,
    )


def _has_key(entry: Any) -> bool:
    """Whether it says which key to use. If not, the provider's SDK may find one in the environment."""
    config = entry.get("config") if isinstance(entry, dict) else None
    return isinstance(config, dict) and bool(config.get("api_key"))


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


def client(where: str, provider: str, config: dict[str, Any]) -> ChatCompletionClient:
    if provider in STREAMING or provider.startswith(ANTHROPIC):
        # The gateway retries: it knows the deadline and the other workers.
        config = {"max_retries": 0, **config}
    ours = OURS.get(provider, provider)
    kind = _class(f"{where}.provider", provider, ours)
    _check_names(f"{where}.config", config, kind)
    _check_nested(f"{where}.config", config)
    try:
        made = _made(ours, config)
        _bound(made)
        _clean_key(where, made)
        return made
    except ModelsError:
        raise
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in problem["loc"])
        raise ModelsError(f"{where}.config.{field}: {problem['msg']}") from None
    except Exception as error:  # a component's constructor may raise anything
        if "model_info" not in config and _lacks_info(ours, config, kind):
            info = ", ".join(f"{name}: {str(value).lower()}" for name, value in NO_CHAT.items())
            raise ModelsError(
                f"{where}.config: model_info is required, as AutoGen does not know {config.get('model')!r}; write "
                f"model_info: {{{info}}}, with true for what it can do"
            ) from None
        raise ModelsError(f"{where}.config: {_first_line(error)}") from None


def _made(provider: str, config: dict[str, Any]) -> ChatCompletionClient:
    return ChatCompletionClient.load_component({"provider": provider, "component_type": "model", "config": config})


def _lacks_info(provider: str, config: dict[str, Any], kind: Any) -> bool:
    """Whether all would be well with a ``model_info``."""
    try:
        _made(provider, {**config, "model_info": NO_CHAT})
    except Exception:
        return False
    return "model_info" in kind.component_config_schema.model_fields


def _class(where: str, provider: str, ours: str) -> type[ChatCompletionClient]:
    module, _, name = ours.rpartition(".")
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        offered = ", ".join(name for name in OURS if "." in name)
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


def _check_nested(where: str, value: Any) -> None:
    """The same for clients within a client, such as the one of a cache."""
    if isinstance(value, dict):
        for name, item in value.items():
            _check_nested(f"{where}.{name}", item)
        provider, config = value.get("provider"), value.get("config")
        if isinstance(provider, str) and isinstance(config, dict):
            stock = next((name for name in OURS if "." in name and OURS[name] == OURS.get(provider)), provider)
            module, _, name = stock.rpartition(".")
            with suppress(ImportError, ValueError):  # its own message comes when it is made
                component = getattr(import_module(module), name, None)
                if isinstance(component, type) and issubclass(component, ComponentBase):
                    _check_names(f"{where}.config", config, component)


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
