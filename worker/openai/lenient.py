"""A chunk of another shape than the common one, read as far as possible. What is left of it is passed on."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from worker.contract.errors import ModelReported
from worker.contract.fields import Json, dumps
from worker.openai.chunk import OURS, CallPart, Choice, Chunk, Delta, Function, Logprobs, NoChunk, loads
from worker.wire.sse import PINGS

DONE = object()
"""The value of ``[DONE]``, however it is written."""

_CHUNK = OURS | {"choices", "usage", "error"}
_CHOICE = frozenset({"index", "delta", "message", "finish_reason", "logprobs", "usage", "error"})
_DELTA = frozenset({"role", "content", "reasoning_content", "reasoning", "tool_calls", "function_call"})
_ERRORS = frozenset({"detail", "errors", "message", "msg", "error_msg", "error_message", "error_code"})
"""Fields of which an answer without choices has one when it says what went wrong."""
_IMAGES = frozenset({"image_url", "image", "output_image"})
_TEXTS = frozenset({None, "", "text", "output_text", "text_delta"})
_THOUGHTS = ("thinking", "reasoning", "text")
_SILENT = PINGS | {b"", b"null"}


@dataclass
class Rest:
    """What a chunk holds that :class:`Chunk` does not; ``calls`` has an entry for each part of a tool call."""

    delta: Json = field(default_factory=dict)
    logprobs: Json = field(default_factory=dict)
    choice: Json = field(default_factory=dict)
    chunk: Json = field(default_factory=dict)
    calls: list[Json] = field(default_factory=list)


def values(payload: bytes) -> list[Any]:
    """The JSON values of an event, or :data:`DONE`; none if it only keeps the connection alive.

    Raises :data:`worker.openai.chunk.ODD`.
    """
    text = payload.strip()
    while text.startswith(b"data:"):  # of a server whose framework wrote another
        text = text[5:].lstrip()
    if text[:1] != b"{":
        word = text.strip(b'"').replace(b" ", b"").lower()
        if word == b"[done]":
            return [DONE]
        if word in _SILENT:
            return []
    try:
        value = loads(text)
        return value if value and isinstance(value, list) else [value]  # all chunks in one, or Gemini's errors
    except ValueError:
        lines = text.splitlines()
        if len(lines) < 2:
            raise
        return [value for line in lines for value in values(line)]  # events without blank lines between them


def read(value: Any, began: bool) -> tuple[Chunk, Rest]:
    """The chunk in any JSON value; ``began`` says whether the reply has begun.

    Raises :class:`NoChunk`, and :class:`ModelReported` for an error.
    """
    if not isinstance(value, dict):
        raise NoChunk("a chunk is no object")
    rest = Rest(chunk=_others(value, _CHUNK))
    choices = value.get("choices")
    if choices is not None and not isinstance(choices, list):
        raise NoChunk("the choices are no list")
    _raise_error(value, choices)
    if not choices and str(value.get("type")).encode("utf-8", "replace") in PINGS:
        return Chunk(), Rest()
    chunk = Chunk(usage=_usage(value.get("usage")))
    choice = _ours(choices or [])
    if choice is not None:
        chunk.choices = [_choice(choice, began, rest)]
        chunk.usage = chunk.usage or _usage(choice.get("usage"))
    groq = value.get("x_groq")
    if not chunk.usage and isinstance(groq, dict):
        chunk.usage = _usage(groq.get("usage"))
    return chunk, rest


def _raise_error(value: Json, choices: list[Any] | None) -> None:
    error = value.get("error")
    if isinstance(error, dict) and isinstance(error.get("error"), dict):  # an event named error, of one
        error = error["error"]
    if error:
        raise ModelReported(error if isinstance(error, (dict, str, list)) else value)
    status = value.get("base_resp")  # MiniMax's, in every answer
    if isinstance(status, dict) and status.get("status_code"):
        raise ModelReported({"message": status.get("status_msg"), "code": status["status_code"]})
    if not choices and not value.get("usage") and (_ERRORS & value.keys() or value.get("object") == "error"):
        raise ModelReported(value)


def _ours(choices: list[Any]) -> Json | None:
    """The choice that is read: other choices were not asked for."""
    if not all(isinstance(choice, dict) for choice in choices):
        raise NoChunk("a choice is no object")
    return next((choice for choice in choices if choice.get("index") in (0, "0", None)), None)


def _choice(value: Json, began: bool, rest: Rest) -> Choice:
    if value.get("error"):
        raise ModelReported(value["error"])
    rest.choice = _others(value, _CHOICE)
    reason = value.get("finish_reason") or None
    if not isinstance(reason, str | None):
        raise NoChunk("a finish reason is no text")
    delta = _delta_of(value, began, rest)
    return Choice(
        delta=_delta(delta, rest) if delta else None,
        finish_reason=reason,
        logprobs=_logprobs(value.get("logprobs"), rest),
    )


def _delta_of(value: Json, began: bool, rest: Rest) -> Json | None:
    """The delta, or what a whole completion has in its place."""
    # An empty list is how PHP writes an empty object.
    delta, message = (None if value.get(name) == [] else value.get(name) for name in ("delta", "message"))
    if not isinstance(delta, dict | None) or not isinstance(message, dict | None):
        raise NoChunk("a delta is no object")
    if delta is None and message is None and isinstance(value.get("text"), str):
        return {"content": rest.choice.pop("text")}
    if message is None or began or _says(delta):
        is_piece = delta is None and message is not None and not value.get("finish_reason")
    else:
        is_piece = delta is None and not value.get("finish_reason")
        delta = delta if is_piece else message
    if is_piece:
        raise NoChunk("a choice has a message where its delta should be, and it is not a whole one")
    return delta


def _says(delta: Json | None) -> bool:
    return any(value for name, value in (delta or {}).items() if name != "role")


def _delta(value: Json, rest: Rest) -> Delta:
    rest.delta |= {name: other for name, other in _others(value, _DELTA).items() if other not in ("", [], {})}
    text, thought = _content(value.get("content"), rest.delta)
    reasoning = {name: value.get(name) or "" for name in ("reasoning_content", "reasoning")}
    for name, given in reasoning.items():
        if not isinstance(given, str):
            rest.delta[name], reasoning[name] = given, ""
    calls = value.get("tool_calls")
    if isinstance(former := value.get("function_call"), dict):  # the former shape, from before there were tools
        calls = calls or {"index": 0, "function": former}
    if isinstance(calls, dict):
        calls = [calls]
    if not isinstance(calls, list | None):
        raise NoChunk("the tool calls are no list")
    return Delta(
        content=text,
        reasoning_content=thought + reasoning["reasoning_content"],
        reasoning=reasoning["reasoning"],
        tool_calls=[_call(part, rest) for part in calls or () if part is not None],
    )


def _content(content: Any, rest: Json) -> tuple[str, str]:
    """Text and reasoning; parts of other kinds go to ``rest``, as the fields in which clients look for them."""
    if isinstance(content, str | None):
        return content or "", ""
    if isinstance(content, int | float):
        return dumps(content), ""
    texts: list[str] = []
    thoughts: list[str] = []
    for part in content if isinstance(content, list) else [content]:
        if isinstance(part, str):
            texts.append(part)
            continue
        if not isinstance(part, dict):
            raise NoChunk("the content is neither text nor a list of parts")
        kind = part.get("type")
        if kind in _TEXTS and isinstance(part.get("text"), str):
            texts.append(part["text"])
            left = _others(part, frozenset({"type", "text", "index"}))
            part = {"type": "text", **left} if left else {}
        elif kind in ("thinking", "reasoning") and (thought := _thought(part)) is not None:
            thoughts.append(thought)
            left = _others(part, frozenset({"type", "index", "closed", *_THOUGHTS}))
            part = {"type": kind, **left} if left else {}
        if part:
            rest.setdefault("images" if kind in _IMAGES else "content_parts", []).append(part)
    return "".join(texts), "".join(thoughts)


def _thought(part: Json) -> str | None:
    value = next((part[name] for name in _THOUGHTS if part.get(name)), "")
    if isinstance(value, list):
        texts = [each.get("text") if isinstance(each, dict) else each for each in value]
        return "".join(map(str, texts)) if all(isinstance(text, str) for text in texts) else None
    return value if isinstance(value, str) else None


def _call(value: Any, rest: Rest) -> CallPart:
    if not isinstance(value, dict):
        raise NoChunk("a part of a tool call is no object")
    function = value.get("function")
    if function is None and value.get("type") in (None, "", "function"):
        function = {name: value[name] for name in ("name", "arguments") if name in value}
        value = {name: other for name, other in value.items() if name not in function}
    part = CallPart(index=_index(value.get("index")), id=_label(value.get("id")))
    if function is None:  # a call of another type, which only the client understands
        rest.calls.append(_others(value, frozenset({"index", "id"})))
        return part
    if not isinstance(function, dict):
        raise NoChunk("a tool call's function is no object")
    arguments = function.get("arguments")
    text = arguments if isinstance(arguments, str | None) else dumps(arguments)
    part.function = Function(_label(function.get("name")), text)
    left = _others(value, frozenset({"index", "id", "type", "function"}))
    others = _others(function, frozenset({"name", "arguments"}))
    rest.calls.append({**left, "function": others} if others else left)
    return part


def _index(value: Any) -> int | None:
    if isinstance(value, str) or (isinstance(value, float) and value.is_integer()):
        value = int(value)
    if value is not None and type(value) is not int:
        raise NoChunk("a tool call's index is no whole number")
    return value


def _label(value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, str | int | None):
        raise NoChunk("a tool call's id or name is no text")
    return str(value) if isinstance(value, int) else value


def _logprobs(value: Any, rest: Rest) -> Logprobs | None:
    if not value:
        return None
    if not isinstance(value, dict):
        raise NoChunk("the log probabilities are no object")
    content = value.get("content")
    if not isinstance(content, list | None) or not all(isinstance(token, dict) for token in content or ()):
        raise NoChunk("the log probabilities are no list of objects")
    rest.logprobs = {name: other for name, other in _others(value, frozenset({"content"})).items() if other != []}
    return Logprobs(content=content)


def _usage(value: Any) -> Json | None:
    return value if value and isinstance(value, dict) else None  # no reply is worse for what it costs


def _others(value: Mapping[str, Any], known: frozenset[str]) -> Json:
    return {name: other for name, other in value.items() if name not in known and other is not None}
