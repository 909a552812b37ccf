"""Ollama's stream, a JSON object a line, as the chunks of OpenAI's API: what reads those does the rest."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import orjson
from autogen_core.models import RequestUsage

from fleet.process.turns import loads
from worker.contract.errors import ModelReported, StreamBroken
from worker.openai.calls import CALLS_LIMIT
from worker.openai.chunk import ODD, NoChunk, check_values
from worker.wire.answers import EVENT_LIMIT
from worker.wire.sse import BEGINNING, BOM, EventTooLong

DONE = b"[DONE]"

_METRICS = ("total_duration", "load_duration", "prompt_eval_duration", "eval_duration")
"""Nanoseconds, passed on with the usage."""

_OURS = frozenset(
    {"model", "created_at", "message", "done", "done_reason", "prompt_eval_count", "eval_count", "logprobs"}
    | {"choices", "usage", "error", *_METRICS}
)
"""Fields of a line that are translated, and those that would be taken for others then."""

_UNANSWERED = ("load", "unload")
"""What a reply ends in that only loaded a model, or gave it up."""


class LineDecoder:
    """Splits a response's body into lines, and translates them. Has the methods of :class:`EventDecoder`."""

    is_plain = False
    is_stream = True
    beginning = ""

    def __init__(self) -> None:
        self._rest: list[bytes] = []
        """The line that is not complete, in pieces: they are joined once, at its end."""
        self._size = 0
        self._ids: set[str] = set()
        """Of the reply's tool calls."""
        self._is_done = False

    def feed(self, received: bytes) -> Iterator[bytes]:
        """The chunks that ``received`` completes.

        Raises :class:`EventTooLong`, :class:`NoChunk`, :class:`ModelReported` and :class:`StreamBroken`.
        """
        if b"\n" in received:
            lines = b"".join([*self._rest, received]).split(b"\n")
            self._rest = [lines.pop()]
            self._size = len(self._rest[0])
            for line in lines:
                yield from self._read(line)
        else:
            self._rest.append(received)
            self._size += len(received)
        if self._size > EVENT_LIMIT:
            raise EventTooLong(f"a line is not complete after {EVENT_LIMIT:,} bytes")

    def end(self) -> Iterator[bytes]:
        """What the last line holds, if it only lacks its end."""
        line = b"".join(self._rest)
        self._rest = []
        yield from self._read(line)

    def _read(self, line: bytes) -> Iterator[bytes]:
        line = line.removeprefix(BOM)
        if self._is_done or not line.strip():
            return
        check_values(line)
        try:
            said = loads(line)
        except ODD:
            raise NoChunk(f"a line begins with {line[:BEGINNING].decode(errors='replace')!r}") from None
        if chunk := self._chunk(_object(said, "a line")):
            yield orjson.dumps(chunk)
            if "usage" in chunk:
                yield DONE

    def _chunk(self, said: dict[str, Any]) -> dict[str, Any]:
        """What ``said`` means in OpenAI's API; empty for what says nothing."""
        if said.get("error"):
            raise ModelReported(said)
        chunk = {name: value for name, value in said.items() if name not in _OURS}
        choice: dict[str, Any] = {}
        if message := _object(said.get("message"), "message"):
            choice["delta"] = self._delta(message)
        if logprobs := _list(said.get("logprobs"), "logprobs"):
            choice["logprobs"] = {"content": [_logprob(token) for token in logprobs]}
        if said.get("done"):
            self._is_done = True
            choice["finish_reason"] = self._finish_reason(said.get("done_reason"))
            chunk["usage"] = _usage(said)
        if choice:
            chunk["choices"] = [{"index": 0, **choice}]
        return chunk

    def _delta(self, message: dict[str, Any]) -> dict[str, Any]:
        delta = {name: value for name, value in message.items() if value and name not in ("role", "thinking")}
        if thinking := message.get("thinking"):
            delta["reasoning_content"] = thinking
        if calls := _list(message.get("tool_calls"), "tool_calls"):
            delta["tool_calls"] = [self._call(call) for call in calls]
        return delta

    def _call(self, call: Any) -> dict[str, Any]:
        """One whole call. Older servers give it no id, and every call the index 0."""
        call = _object(call, "tool_calls")
        function = _object(call.get("function"), "function")
        if len(self._ids) >= CALLS_LIMIT:
            raise NoChunk(f"more than {CALLS_LIMIT:,} tool calls")
        found = call.get("id")
        id_ = found if isinstance(found, str) and found and found not in self._ids else f"call_{uuid4().hex}"
        index = len(self._ids)
        self._ids.add(id_)
        arguments = function.get("arguments") or {}
        text = arguments if isinstance(arguments, str) else orjson.dumps(arguments).decode()
        function = {name: value for name, value in function.items() if name != "index"} | {"arguments": text}
        return {**call, "index": index, "id": id_, "type": "function", "function": function}

    def _finish_reason(self, reason: Any) -> str:
        """The reason in OpenAI's words. Servers before 0.1.34 give none."""
        if reason in _UNANSWERED:
            raise StreamBroken(f"Ollama did not answer, but ended with {reason!r}", RequestUsage(0, 0))
        if reason in (None, "", "stop"):
            return "tool_calls" if self._ids else "stop"
        return str(reason)


def _object(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict | None):
        raise NoChunk(f"{name} is no object")
    return value or {}


def _list(value: Any, name: str) -> list[Any]:
    if not isinstance(value, list | None):
        raise NoChunk(f"{name} is no list")
    return value or []


def _logprob(token: Any) -> dict[str, Any]:
    """With what OpenAI's clients need, and Ollama leaves out when it is empty."""
    return {"bytes": None, "top_logprobs": [], **_object(token, "logprobs")}


def _usage(said: dict[str, Any]) -> dict[str, Any]:
    prompt, completion = (_count(said.get(name)) for name in ("prompt_eval_count", "eval_count"))
    usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    return usage | {name: said[name] for name in _METRICS if name in said}


def _count(value: Any) -> int:
    """A number of tokens, which is left out when it is 0."""
    return value if isinstance(value, int) else 0
