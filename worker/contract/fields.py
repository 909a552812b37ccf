"""Fields of a model's chunk that are passed on as they came, as events of the reply."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from fleet.lane import SLICE
from protos import chat_pb2 as pb
from worker.contract.utf8 import clean

Json = dict[str, Any]


def events(parts: Mapping[str, Json], *, beside: bool) -> Iterator[pb.ReplyEvent]:
    """``parts`` by the names of :class:`pb.Fields`, cut into events that the lane takes; none if all are empty."""
    given = {name: fields for name, fields in parts.items() if fields}
    if not given:
        return
    text = dumps(given)
    for start in range(0, len(text), SLICE):
        end = start + SLICE
        piece = pb.Fields(json=text[start:end], cut=end < len(text), beside=beside)
        yield pb.ReplyEvent(fields=piece, tokens=0 if beside or piece.cut else 1)


class Joined:
    """Puts fields together that were cut into several events."""

    def __init__(self) -> None:
        self._pieces: list[str] = []

    def add(self, fields: pb.Fields) -> Json:
        """The delta of the fields that are whole with this piece; without one, or while pieces are missing, empty."""
        self._pieces.append(fields.json)
        if fields.cut:
            return {}
        delta: Json = orjson.loads("".join(self._pieces)).get("delta", {})
        self._pieces.clear()
        return delta


def refusal(delta: Json) -> str:
    """The model's words in ``delta`` for that it refuses: AutoGen has no other place for them than the text."""
    words = delta.pop("refusal", None)
    return words if isinstance(words, str) else ""


def dumps(value: object) -> str:
    """``value`` as JSON that any decoder accepts: half characters are replaced, infinities and NaN become null."""
    # The gateway puts this into objects of its own, which must not be too deep for orjson then.
    try:
        return orjson.dumps([[[[[[[[value]]]]]]]]).decode()[8:-8]
    except orjson.JSONEncodeError:
        plain = orjson.loads(clean(json.dumps(value, ensure_ascii=False, allow_nan=False)))
        return orjson.dumps([[[[[[[[plain]]]]]]]]).decode()[8:-8]
