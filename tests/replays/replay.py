"""A provider's answer, and what a client must get for it."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]

SSE = "text/event-stream"
NDJSON = "application/x-ndjson"
DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True)
class Answer:
    """An HTTP response, in the pieces in which it is sent."""

    pieces: tuple[bytes, ...]
    status: int = 200
    kind: str = SSE
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Want:
    """What a client of ``/v1`` gets, as a stream and whole."""

    content: str = ""
    reasoning: str = ""
    calls: tuple[tuple[str, Json], ...] = ()
    """Names and arguments."""
    finish: str = "stop"
    usage: Json = field(default_factory=dict)
    """Members of it."""
    fields: Json = field(default_factory=dict)
    """Fields of deltas, choices and chunks, with a value that one of them has."""
    call_fields: Json = field(default_factory=dict)
    """The same of the parts of tool calls."""
    status: int = 200
    """Of a whole answer, or of a stream that fails before its first token."""
    error: Json = field(default_factory=dict)
    """Members of the error that ends the reply; ``message`` is a part of its message."""


@dataclass(frozen=True)
class Replay:
    """``entry`` is the example of ``models.yaml`` that the provider is asked by."""

    name: str
    entry: str
    answer: Answer
    want: Want
    asked: Json = field(default_factory=dict)
    """What the client asks beside its message."""
    path: str = "/v1/chat/completions"
    """What the provider is asked for."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """What it must be sent among its headers."""
    sent: Json = field(default_factory=dict)
    """What it must be sent among its body's fields."""


def event(body: Json) -> bytes:
    """A server-sent event."""
    return b"data: " + json.dumps(body).encode() + b"\n\n"


def events(*bodies: Json | bytes, done: bool = True) -> Answer:
    """A stream of events, each in a piece of its own; bytes are sent as they are."""
    pieces = [body if isinstance(body, bytes) else event(body) for body in bodies]
    return Answer((*pieces, *([DONE] if done else [])))


def lines(*bodies: Json) -> Answer:
    """A stream of lines."""
    return Answer(tuple(json.dumps(body).encode() + b"\n" for body in bodies), kind=NDJSON)


def refusal(status: int, body: object, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer((json.dumps(body).encode(),), status, "application/json", named)


def chunks(head: Json, *choices: Json, usage: Json | None = None) -> Iterable[Json]:
    """Chunks of one completion: ``head`` is what all of them have, and each choice is one's only one."""
    for choice in choices:
        yield {**head, "choices": [{"index": 0, **choice}]}
    if usage is not None:
        yield {**head, "choices": [], "usage": usage}


def tool(name: str, **properties: Json) -> Json:
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


WEATHER = {"tools": [tool("get_weather", city={"type": "string"})]}
PARIS = ("get_weather", {"city": "Paris"})
ROME = ("get_weather", {"city": "Rome"})
