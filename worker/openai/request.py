"""What a client's configuration adds to a request."""

from collections.abc import Mapping
from typing import Any

Json = dict[str, Any]

OURS = frozenset({"model", "stream", "timeout", "extra_body"})
"""Arguments of a client that are no options of its requests."""

LIMITS = frozenset({"max_tokens", "max_completion_tokens"})
"""Two names of one option, of which a request may have one."""


def completed(body: Json, config: Mapping[str, Any]) -> Json:
    """A request's body with the create arguments and ``extra_body`` of ``config``: the request's own values win."""
    made = {name: value for name, value in config.items() if name not in OURS} | (config.get("extra_body") or {})
    if any(body.get(name) is not None for name in LIMITS):
        made = {name: value for name, value in made.items() if name not in LIMITS}
    # Usage is always asked for, unless the configuration says otherwise. The gateway knows whether its client wants it.
    usage = {"include_usage": True} | (made.get("stream_options") or {})
    made |= {name: value for name, value in body.items() if value is not None or name not in made}
    return made | {
        "stream_options": (body.get("stream_options") or {}) | usage,
        "model": config["model"],
        "stream": True,
    }


def without_names(messages: list[Json]) -> None:
    """Take the names out of users' messages, for servers that refuse them."""
    for message in messages:
        if message["role"] == "user":
            message.pop("name", None)


def with_prefixes(messages: list[Json]) -> None:
    """Begin each named user's text with the name, as AutoGen does."""
    for message in messages:
        name, content = message.get("name"), message.get("content")
        if message["role"] != "user" or not isinstance(name, str):
            continue
        if isinstance(content, str):
            message["content"] = f"{name} said:\n{content}"
        elif content and isinstance(content[0], dict) and content[0].get("type") == "text":
            content[0]["text"] = f"{name} said:\n{content[0]['text']}"
