"""The body of a chat completion as a request of the Messages API.

What Claude has a word for is translated. What it has none for is refused by name if it would change the reply. A field
that we do not know goes as it came, and Claude judges it.
"""

from collections.abc import Mapping
from typing import Any

from fleet.process.turns import Turn
from worker.claude.messages import conversation
from worker.claude.shapes import listed, mapped
from worker.claude.tools import choice, declared, named_in
from worker.contract.errors import Unsupported

Json = dict[str, Any]

SAMPLING = frozenset(("temperature", "top_p", "top_k"))
"""Version 2026-10-21 of the API refuses these for every model; 2023-06-01 takes them for models that have them."""

_REFUSED: dict[str, tuple[Any, ...]] = {
    "audio": (),
    "frequency_penalty": (0,),
    "function_call": ("none", "auto"),
    "functions": ([],),
    "logit_bias": ({},),
    "logprobs": (False,),
    "modalities": (["text"],),
    "n": (1,),
    "prediction": (),
    "presence_penalty": (0,),
    "prompt_cache_key": (),
    "prompt_cache_retention": (),
    "seed": (),
    "store": (False,),
    "top_logprobs": (0,),
    "verbosity": ("medium",),
    "web_search_options": (),
}
"""What has no word in the Messages API, and the values that ask for nothing."""

_READ = frozenset(
    (
        "max_completion_tokens",
        "max_tokens",
        "messages",
        "metadata",
        "model",
        "output_config",
        "parallel_tool_calls",
        "reasoning_effort",
        "response_format",
        "safety_identifier",
        "stop",
        "stream",
        "stream_options",
        "system",
        "tool_choice",
        "tools",
        "user",
    )
)
"""What is translated, or ours."""

_TIERS = {"default": "standard_only"}


async def request(defaults: Mapping[str, Any], body: Json, turn: Turn, *, in_place: bool) -> Json:
    """What to send. ``body`` goes before ``defaults``, which are in Claude's words; their tools come first.
    System messages after the first turn stay ``in_place``, or join the others.

    Raises :class:`Unsupported`.
    """
    asked = fields(body)
    system, turns = await conversation(body["messages"], turn, in_place=in_place)
    tools = [*defaults.get("tools", ()), *await declared(body.get("tools"), turn)]
    chosen = choice(body.get("tool_choice"), parallel=body.get("parallel_tool_calls") is not False)
    if not tools:
        tools = named_in(turns)
        if tools or (chosen and chosen.get("type") in ("auto", "none")):
            chosen = {"type": "none"} if tools else None
    made = {**defaults, **asked, "messages": turns}
    if config := {**defaults.get("output_config", {}), **asked.get("output_config", {})}:
        made["output_config"] = config
    if system := [*_system(body.get("system")), *system]:
        made["system"] = system
    if tools:
        made["tools"] = tools
    if chosen is not None:
        made["tool_choice"] = chosen
    return made


def fields(body: Mapping[str, Any]) -> Json:
    """What stands beside messages and tools, in Claude's words. Raises :class:`Unsupported`."""
    made: Json = {}
    for name, value in body.items():
        if value is None or name in _READ:
            continue
        if name not in _REFUSED:
            made[name] = _TIERS.get(value, value) if name == "service_tier" and isinstance(value, str) else value
        elif value not in _REFUSED[name]:
            raise Unsupported(f"{name}: Claude's API has no such option")
    limits = [body[name] for name in ("max_completion_tokens", "max_tokens") if body.get(name) is not None]
    if limits:
        made["max_tokens"] = limits[0]
    if stop := body.get("stop"):
        made["stop_sequences"] = [stop] if isinstance(stop, str) else stop
    if metadata := _metadata(body):
        made["metadata"] = metadata
    config = mapped(body.get("output_config"), "output_config")
    config = {**config, **_effort(body, made), **_format(body.get("response_format"))}
    if config:
        made["output_config"] = config
    return made


def _metadata(body: Mapping[str, Any]) -> Json:
    metadata = mapped(body.get("metadata"), "metadata")
    users = [body[name] for name in ("user", "safety_identifier") if body.get(name)]
    if users and users[0] != users[-1]:
        raise Unsupported("user, safety_identifier: Claude takes one identifier of the user")
    return {**metadata, "user_id": users[0]} if users else metadata


def _effort(body: Mapping[str, Any], made: Json) -> Json:
    match body.get("reasoning_effort"):
        case None:
            return {}
        case "none":
            made.setdefault("thinking", {"type": "disabled"})
            return {}
        case "minimal":
            return {"effort": "low"}
        case effort:
            return {"effort": effort}


def _format(asked: Any) -> Json:
    match asked:
        case None | {"type": "text"}:
            return {}
        case {"type": "json_schema", "json_schema": {"schema": dict(schema), **rest}}:
            if rest.get("description"):
                schema = {"description": rest["description"], **schema}
            return {"format": {"type": "json_schema", "schema": schema}}
        case {"type": "json_schema"}:
            raise Unsupported("response_format.json_schema.schema: is missing")
        case {"type": "json_object"}:
            raise Unsupported("response_format: Claude's API has no json_object; json_schema says which object")
        case _:
            return {"format": mapped(asked, "response_format")}


def _system(said: Any) -> list[Json]:
    if isinstance(said, str):
        return [{"type": "text", "text": said}]
    return listed(said, "system")
