"""Writes what chunks hold into a sink: text that arrives together at once, and before it what came beside it."""

from collections.abc import Callable
from typing import Any, Literal

from protos import chat_pb2 as pb
from worker.contract import fields
from worker.contract.fields import Json
from worker.contract.sink import Sink
from worker.contract.utf8 import SurrogateJoiner
from worker.openai.chunk import NoChunk
from worker.wire.answers import EVENT_LIMIT

Kind = Literal["text", "reasoning"]


class Writer:
    """``on_first`` is called once, with the first delta."""

    def __init__(self, sink: Sink, on_first: Callable[[], None] | None = None) -> None:
        self.deltas = 0
        """How often something was written that is a part of the model's reply."""
        self.silent = 0
        """Bytes that arrived since something was written; counted by the reader."""
        self._sink = sink
        self._on_first = on_first
        self._kind: Kind = "text"
        self._pieces: list[str] = []
        self._tokens = 0
        self._joiner = SurrogateJoiner()
        self._held: dict[str, Json] = {}
        """Fields of choices and chunks. They begin no reply: until it says something, it can be tried elsewhere."""
        self._held_size = 0

    def delta(self, kind: Kind, text: str) -> None:
        self.silent = 0
        self.deltas += 1
        if self._on_first is not None:
            self._first()
        if kind != self._kind:
            self.end()
            self._kind = kind
        self._pieces.append(text)
        self._tokens += 1

    def event(self, event: pb.ReplyEvent) -> None:
        self._spoke()
        self.end()
        self._put_held()
        self._sink.event(event)

    def fields(self, parts: dict[str, Json], *, beside: bool) -> None:
        """Write fields of a delta; with ``beside`` they belong to what is written next."""
        self._spoke()
        self.flush()
        self._put_held()
        for event in fields.events(parts, beside=beside):
            self._sink.event(event)

    def hold(self, part: str, name: str, value: Any, size: int) -> None:
        """Write a field of a choice or a chunk, of ``size`` bytes, beside what comes next. Raises :class:`NoChunk`."""
        self.flush()
        self._held_size += size
        if self._held_size > EVENT_LIMIT:
            raise NoChunk(f"nothing but fields of more than {EVENT_LIMIT:,} bytes")
        self._held.setdefault(part, {})[name] = value

    def flush(self) -> None:
        if self._pieces:
            text = self._pieces[0] if len(self._pieces) == 1 else "".join(self._pieces)
            self._pieces.clear()
            self._write(self._joiner.join(text))

    def end(self) -> None:
        """Write also what was held back for the other half of a character: text of another kind follows, or none."""
        self.flush()
        self._write(self._joiner.end())

    def finish(self) -> None:
        """The reply is complete: what is held goes beside its end."""
        self.end()
        self._put_held()

    def _spoke(self) -> None:
        self.silent = 0
        self.deltas += 1
        if self._on_first is not None:
            self._first()

    def _first(self) -> None:
        on_first, self._on_first = self._on_first, None
        assert on_first is not None
        on_first()

    def _put_held(self) -> None:
        if self._held:
            held, self._held, self._held_size = self._held, {}, 0
            for event in fields.events(held, beside=True):
                self._sink.event(event)

    def _write(self, text: str) -> None:
        if text:
            if self._held:
                self._put_held()
            write = self._sink.text if self._kind == "text" else self._sink.reasoning
            write(text, self._tokens)
            self._tokens = 0
