"""What models say beside AutoGen's types as they call tools: they get it back with the calls.

Gemini wants its thought signatures again, Claude its thinking, and OpenRouter its ``reasoning_details``.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from autogen_core import FunctionCall

from protos import chat_pb2 as pb
from worker.contract.fields import Joined, refusal

Json = dict[str, Any]

LABELS = frozenset({"type", "id", "index", "name", "format", "role", "object"})
"""Text that is repeated, and not continued, in the parts of an object."""

ANYONE = object()
"""Instead of a client: what the conversation has, whichever model said it."""


class Beside:
    """The fields of one answer: those of the ``message``, and those of its ``calls`` by index."""

    def __init__(self) -> None:
        self.message: Json = {}
        self.calls: dict[int, Json] = {}
        self._joined = Joined()

    def add(self, fields: pb.Fields) -> str:
        """Keep them; return the words of a refusal among them, which are text."""
        delta = self._joined.add(fields)
        words = refusal(delta)
        for call in delta.pop("tool_calls", ()):
            _merge(self.calls.setdefault(call.pop("index", 0), {}), call)
        _merge(self.message, delta)
        return words


class Recall:
    """Keeps the fields of one run's answers that call tools, by the calls' ids and by who said them."""

    def __init__(self) -> None:
        self._kept: dict[tuple[int, str], tuple[bytes, bytes]] = {}
        """As JSON, because a client may change the body that it sends."""

    def keep(self, client: object, calls: Mapping[int, FunctionCall], beside: Beside) -> None:
        """Note what ``client`` said beside ``calls``."""
        if beside.message or beside.calls:
            message = orjson.dumps(beside.message)
            for index, call in calls.items():
                self._kept[id(client), call.id] = message, orjson.dumps(beside.calls.get(index, {}))

    def read(self, messages: Sequence[pb.ChatMessage]) -> None:
        """Note what the client of this run sends back."""
        for message in messages:
            if message.tool_calls and (message.extra or any(call.extra for call in message.tool_calls)):
                for call in message.tool_calls:
                    kept = (message.extra or "{}").encode(), (call.extra or "{}").encode()
                    self._kept[id(ANYONE), call.id] = kept

    def put_back(self, client: object, messages: Sequence[Json]) -> None:
        """Complete the calls in the body of a request to ``client``."""
        if not self._kept:
            return
        for message in messages:
            for call in message.get("tool_calls") or ():
                fields, of_call = self._fields(client, call["id"]) or self._fields(ANYONE, call["id"]) or ({}, {})
                message.update({name: value for name, value in fields.items() if name != "tool_calls"})
                for name, value in of_call.items():
                    known = call.get(name)
                    call[name] = known | value if isinstance(known, dict) and isinstance(value, dict) else value

    def _fields(self, client: object, call_id: str) -> tuple[Json, Json] | None:
        kept = self._kept.get((id(client), call_id))
        return None if kept is None else (orjson.loads(kept[0]), orjson.loads(kept[1]))

    def told(self, client: object, calls: Sequence[FunctionCall]) -> list[Json]:
        """For the client of this run, the delta that goes with each of its calls."""
        deltas: list[Json] = []
        for index, call in enumerate(calls):
            fields, of_call = self._fields(client, call.id) or ({}, {})
            delta = {} if index else {name: value for name, value in fields.items() if name != "content"}
            deltas.append(delta | ({"tool_calls": [{"index": index, **of_call}]} if of_call else {}))
        return deltas


def _merge(into: Json, more: Json) -> None:
    """Text is continued, lists are appended, objects and the list items of one index are merged."""
    for name, value in more.items():
        known = into.get(name)
        if isinstance(known, str) and isinstance(value, str) and name not in LABELS:
            into[name] = known + value
        elif isinstance(known, dict) and isinstance(value, dict):
            _merge(known, value)
        elif isinstance(known, list) and isinstance(value, list):
            for item in value:
                last = known[-1] if known else None
                if isinstance(last, dict) and isinstance(item, dict) and "index" in item and _same(last, item):
                    _merge(last, item)
                else:
                    known.append(item)
        elif value is not None:
            into[name] = value


def _same(one: Json, other: Json) -> bool:
    return all(one.get(name) == other.get(name) for name in ("index", "type"))
