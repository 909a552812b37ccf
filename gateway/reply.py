"""The one queue of a request: the fan-in pushes what workers send, the response takes it, merged, as fast as it can.

What waits here is bounded by the lane's credit: the worker stops when the client has not taken 64 KiB.
"""

import asyncio
from collections import deque
from dataclasses import dataclass, field

from fleet.lane import CREDIT, payload_bytes
from gateway.errors import GatewayError
from protos import chat_pb2 as pb

LIMIT = 4 * CREDIT
"""Bytes that may wait: a worker that sends more ignores its credit."""


@dataclass
class Piece:
    """Neighbouring text of one kind, or one tool call; ``size`` is what it costs in credit, in bytes."""

    text: str = ""
    reasoning: str = ""
    tool_call: pb.ToolCall | None = None
    size: int = 0


@dataclass(frozen=True)
class Completed:
    """The reply is whole."""

    finish_reason: str
    usage: pb.Usage = field(default_factory=pb.Usage)


End = Completed | GatewayError


class Reply:
    """Written by the fan-in without ever waiting, read by one response."""

    def __init__(self) -> None:
        self.end: End | None = None
        self.unread = 0
        self.started = False
        self.tokens = 0
        self._texts: deque[tuple[str, list[str] | pb.ToolCall, int]] = deque()
        self._ready = asyncio.Event()

    def push(self, chunk: pb.ChatChunk) -> bool:
        """Add text, reasoning or a tool call, unless the end is there; false when over the limit."""
        if self.end is not None:
            return True
        kind = chunk.WhichOneof("event") or ""
        size = payload_bytes(chunk)
        self.started = True
        self.tokens += chunk.tokens
        if kind == "tool_call":
            self._texts.append((kind, chunk.tool_call, size))
        else:
            self._add_text(kind, chunk.reasoning if kind == "reasoning" else chunk.text, size)
        self.unread += size
        self._ready.set()
        return self.unread <= LIMIT

    def finish(self, end: End) -> None:
        """Say how it ends; only the first word counts."""
        if self.end is None:
            self.end = end
            self._ready.set()

    async def get(self) -> Piece | End:
        """The next piece, or, once all pieces are taken, the end."""
        while not self._texts and self.end is None:
            self._ready.clear()
            await self._ready.wait()
        if not self._texts:
            assert self.end is not None
            return self.end
        kind, content, size = self._texts.popleft()
        self.unread -= size
        if not isinstance(content, list):
            return Piece(tool_call=content, size=size)
        text = "".join(content)
        return Piece(reasoning=text, size=size) if kind == "reasoning" else Piece(text=text, size=size)

    def _add_text(self, kind: str, text: str, size: int) -> None:
        if self._texts and self._texts[-1][0] == kind:
            _, content, before = self._texts.pop()
            assert isinstance(content, list)
            content.append(text)
            self._texts.append((kind, content, before + size))
        else:
            self._texts.append((kind, [text], size))
