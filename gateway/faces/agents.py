"""What agents say besides text, and whose text it is, for the faces that tell their messages apart."""

from typing import Any

import orjson

from gateway.chats.reply import DELTAS
from gateway.errors import WorkerLost
from protos import chat_pb2 as pb

Json = dict[str, Any]

BREAK = "\n\n"
"""Between the messages of two speakers, where a face has one text for all."""


def told(event: pb.ReplyEvent) -> Json | None:
    """An agent's event by its kind, or None for kinds that belong to the text. Raises :class:`WorkerLost`."""
    match event.WhichOneof("event"):
        case "tool_call" if event.source:  # without a source it is for the client to run
            call = event.tool_call
            return {"tool_call": {"id": call.id, "name": call.name, "arguments": call.arguments}}
        case "tool_result":
            result = event.tool_result
            return {
                "tool_result": {
                    "call_id": result.call_id,
                    "name": result.name,
                    "content": result.content,
                    "is_error": result.is_error,
                }
            }
        case "message":
            return {"message": {"id": event.message.id, "event": "end" if event.message.end else "begin"}}
        case "handoff":
            return {"handoff": {"target": event.handoff.target, "content": event.handoff.content}}
        case "approval":
            return {"approval": {"id": event.approval.id, "content": event.approval.content}}
        case "custom":
            return {"custom": {"kind": event.custom.kind, "value": _value(event.custom.json)}}
    return None


class Paragraphs:
    """Says what to write before a delta, so that messages of several speakers stay apart in one text."""

    def __init__(self) -> None:
        self._last: dict[str, str] = {}
        """Whose delta of each kind was the last."""
        self._ended: set[str] = set()
        """The kinds whose last message has ended."""

    def mark(self) -> None:
        """A message of some source begins or ends."""
        self._ended.update(self._last)

    def before(self, kind: str, source: str) -> str:
        last = self._last.get(kind)
        is_new = last is not None and (last != source or kind in self._ended)
        self._last[kind] = source
        self._ended.discard(kind)
        return BREAK if is_new else ""


class Messages:
    """What each speaker said and did, in the order in which it began; empty for a reply without speakers."""

    def __init__(self) -> None:
        self._found: list[Json] = []
        self._open: dict[str, dict[str, list[str]]] = {}
        """The pieces of each source's message: several may speak at once."""

    def add(self, event: pb.ReplyEvent) -> None:
        """Add an event that has a source."""
        source, kind = event.source, str(event.WhichOneof("event"))
        if kind == "message":
            self._open.pop(source, None)
        elif kind in DELTAS:
            if source not in self._open:
                pieces = self._open[source] = {}
                self._found.append({"source": source, _PIECES: pieces})
            self._open[source].setdefault(_NAMES[kind], []).append(getattr(event, kind))
        elif shown := told(event):
            self._found.append({"source": source, **shown})

    def read(self) -> list[Json]:
        """Them all; nothing may be added then."""
        for message in self._found:
            for name, texts in message.pop(_PIECES, {}).items():
                message[name] = "".join(texts)
        return self._found


_PIECES = ""
_NAMES = {"text": "content", "reasoning": "reasoning"}


def _value(text: str) -> Any:
    try:
        return orjson.loads(text)
    except ValueError:
        raise WorkerLost("chunk_invalid", "the worker sent an event that is no JSON") from None
