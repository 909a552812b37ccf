"""What a model's chunks hold besides the kinds of events (``Fields`` in ``protos/chat.proto``), read and merged."""

from collections.abc import Sequence
from typing import Any

import orjson

from fleet.process.turns import Steps, at_once
from gateway.errors import MalformedBody, WorkerLost
from gateway.faces.outline import Outline
from protos import chat_pb2 as pb

Json = dict[str, Any]
Parts = dict[str, Json]
"""By the part of a chunk that they belong to: ``delta``, ``logprobs``, ``choice`` or ``chunk``."""

LIMIT = 5 * 1024 * 1024
"""Characters of one object, and of those that are held for one chunk; a worker accepts no event of 4 MiB."""

MAX_DEPTH = 250
"""orjson writes no deeper values than 254."""

LABELS = frozenset({"type", "id", "index", "name", "format", "role", "object"})
"""Text that names what it stands in: where others say it again, it is not appended."""


class Fields:
    """Reads objects from events, which may hold them in pieces, and holds them for the chunk that they belong to."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._size = 0
        self._outline: Outline | None = None
        self._held: list[Parts] = []
        self._held_size = 0

    def __bool__(self) -> bool:
        return bool(self._held)

    def add(self, fields: pb.Fields) -> bool:
        """Hold what ``fields`` completes; whether nothing else comes in the same chunk. Raises as :meth:`read`."""
        self._held_size += len(fields.json)
        if self._held_size > 2 * LIMIT:
            raise _invalid()
        parts = self.read(fields)
        if parts is None:
            return False
        self._held.append(parts)
        return not fields.beside

    def take(self, delta: Json | None = None) -> Parts:
        """What is held, merged with ``delta``."""
        if not self._held:
            return {"delta": delta or {}, "logprobs": {}, "choice": {}, "chunk": {}}
        parts = at_once(merged_parts([{"delta": delta or {}}, *self._held]))
        self._held.clear()
        self._held_size = 0
        return parts

    def read(self, fields: pb.Fields) -> Parts | None:
        """The object that ``fields`` completes. Raises :class:`WorkerLost` for anything else."""
        try:
            return self._read(fields)
        except (ValueError, MalformedBody):
            raise _invalid() from None

    def _read(self, fields: pb.Fields) -> Parts | None:
        text = fields.json
        if fields.cut or self._outline is not None or text.count("{") + text.count("[") > MAX_DEPTH:
            self._pieces.append(text)
            self._size += len(text)
            if self._size > LIMIT:
                raise ValueError("too long")
            self._outline = self._outline or Outline(max_depth=MAX_DEPTH)
            self._outline.feed(text.encode())
            if fields.cut:
                return None
            text = "".join(self._pieces)
            self._pieces, self._size, self._outline = [], 0, None
        parts = orjson.loads(text)
        if not isinstance(parts, dict) or not all(isinstance(part, dict) for part in parts.values()):
            raise ValueError("no object of objects")
        return parts


def _invalid() -> WorkerLost:
    return WorkerLost("chunk_invalid", "the worker sent fields of a chunk that are no JSON object")


def merged_parts(every: Sequence[Parts]) -> Steps[Parts]:
    """The fields of many chunks as those of one. Of a choice and a chunk the last values count that are not empty."""
    parts: Parts = {}
    for name in ("choice", "chunk"):
        found = parts[name] = {}
        for part in every:
            yield
            for field, value in part.get(name, {}).items():
                if value or not isinstance(value, dict | list | str) or field not in found:
                    found[field] = value
    for name in ("delta", "logprobs"):
        parts[name] = yield from merged([part[name] for part in every if name in part])
    return parts


def merged(deltas: list[Json], depth: int = 0) -> Steps[Json]:
    """Deltas as one: text of the same name is joined, unless it is a label, lists are appended, objects are merged.

    Objects of one ``index`` in lists are merged too. Of everything else, and where kinds differ, the last value counts.
    """
    values: dict[str, list[Any]] = {}
    for delta in deltas:
        yield
        for name, value in delta.items():
            given = values.setdefault(name, [])
            if value is not None:
                given.append(value)
    one: Json = {}
    for name, given in values.items():
        yield
        one[name] = (yield from _one(name, given, depth + 1)) if given else None
    return one


def _one(name: str, values: list[Any], depth: int) -> Steps[Any]:
    last = values[-1]
    if len(values) == 1 or depth > 32 or not all(type(value) is type(last) for value in values):
        return last
    if isinstance(last, str):
        return last if name in LABELS else "".join(values)
    if isinstance(last, dict):
        return (yield from merged(values, depth))
    return (yield from _by_index(values, depth)) if isinstance(last, list) else last


def _by_index(lists: list[list[Any]], depth: int) -> Steps[list[Any]]:
    items: list[list[Any]] = []
    places: dict[int, list[Any]] = {}
    for each in lists:
        more: dict[int, list[Any]] = {}
        for item in each:
            yield
            index = item.get("index") if isinstance(item, dict) else None
            if isinstance(index, int) and index in places:
                places[index].append(item)
                continue
            items.append([item])
            if isinstance(index, int):
                more.setdefault(index, items[-1])
        places.update(more)  # none of them is there yet
    one: list[Any] = []
    for given in items:
        yield
        one.append(given[0] if len(given) == 1 else (yield from merged(given, depth)))
    return one
