"""The one queue of a request: the fan-in pushes what workers send, the response takes it, merged, as fast as it can.

What waits here is bounded by the lane's credit: the worker stops when the client has not taken 64 KiB.
"""

import asyncio
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import orjson

from fleet.lane import CREDIT, payload_bytes, text_bytes
from gateway.errors import GatewayError
from protos import chat_pb2 as pb

LIMIT = 4 * CREDIT
"""Bytes that may wait: a worker that sends more ignores its credit."""

STEP = 16
"""Tokens between two reports of their number: to report each would cost more than to count it."""


@dataclass(slots=True)
class Piece:
    """Neighbouring text of one kind, or a part of a tool call, or the log probabilities of the text before it.

    ``size`` is what it costs in credit, in bytes.
    """

    text: str = ""
    reasoning: str = ""
    tool_call: pb.ToolCall | None = None
    logprobs: list[Any] | None = None
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
        self.accepted = False
        """Whether a worker has taken the request on."""
        self.started = False
        self.tokens = 0
        self._items: deque[tuple[list[str] | Piece, str, int]] = deque()
        """Pieces that stand alone, and texts that grow, with their kind and size."""
        self._reader: asyncio.Future[None] | None = None
        self._nudged = False
        self._direct: Callable[[str, int], bool] | None = None
        self._meter: Callable[[int], None] = lambda _: None
        self._meter_at = sys.maxsize

    def meter(self, report: Callable[[int], None]) -> None:
        """Report ``tokens`` at the first of them, and after every :data:`STEP` more."""
        self._meter, self._meter_at = report, 1

    def attend(self, direct: Callable[[str, int], bool]) -> None:
        """Offer text to ``direct``, with its size in bytes, while somebody waits in :meth:`get`, who is not woken then.

        It takes the text and returns true, or leaves it to the one that waits, who also gets what it raises.
        """
        self._direct = direct

    def push_text(self, text: str, tokens: int) -> bool:
        """Add text, made of so many of the model's pieces, unless the end is there; false when over the limit."""
        if self.end is not None:
            return True
        self.started = True
        self.tokens += tokens
        if self.tokens >= self._meter_at:
            self._report()
        size = text_bytes(text)
        reader = self._reader
        if self._direct is not None and reader is not None and not reader.done() and not self._nudged:
            try:
                if self._direct(text, size):
                    return True
            except Exception as error:
                reader.set_exception(error)
                return True
        self.unread += size
        self._add_text("text", text, size)
        self._wake()
        return self.unread <= LIMIT

    def push(self, chunk: pb.ReplyEvent) -> bool:
        """Add text, reasoning, a tool call or log probabilities, unless the end is there; false when over the limit.

        Raises ``ValueError`` for log probabilities that are no JSON list.
        """
        if self.end is not None:
            return True
        kind = chunk.WhichOneof("event") or ""
        if kind == "text":
            return self.push_text(chunk.text, chunk.tokens)
        self.started = True
        # Workers do not count the parts of tool calls.
        self.tokens += 1 if kind == "tool_call" else chunk.tokens
        if self.tokens >= self._meter_at:
            self._report()
        size = payload_bytes(chunk)
        if self.unread + size > LIMIT:
            return False
        if kind == "tool_call":
            self._items.append((Piece(tool_call=chunk.tool_call, size=size), kind, size))
        elif kind == "logprobs":
            self._items.append((Piece(logprobs=_token_list(chunk.logprobs), size=size), kind, size))
        else:
            self._add_text(kind, chunk.reasoning, size)
        self.unread += size
        self._wake()
        return True

    def finish(self, end: End) -> None:
        """Say how it ends; only the first word counts."""
        if self.end is None:
            self.end = end
            self._wake()

    def nudge(self) -> None:
        """Let a :meth:`get` that waits return None."""
        self._nudged = True
        self._wake()

    async def get(self) -> Piece | End | None:
        """The next piece, or, once all pieces are taken, the end; None after a :meth:`nudge` in silence."""
        self._nudged = False
        while not self._items:
            if self.end is not None or self._nudged:
                return self.end
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        content, kind, size = self._items.popleft()
        if isinstance(content, Piece):
            return content
        text = content[0] if len(content) == 1 else "".join(content)
        return Piece(reasoning=text, size=size) if kind == "reasoning" else Piece(text=text, size=size)

    def _report(self) -> None:
        self._meter_at = self.tokens + STEP
        self._meter(self.tokens)

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def _add_text(self, kind: str, text: str, size: int) -> None:
        if not size:
            return  # it would cost no credit
        if self._items:
            content, last, before = self._items[-1]
            if last == kind and isinstance(content, list):
                content.append(text)
                self._items[-1] = content, kind, before + size
                return
        self._items.append(([text], kind, size))


def _token_list(text: str) -> list[Any]:
    tokens = orjson.loads(text)
    if not isinstance(tokens, list):
        raise ValueError("log probabilities are no list")
    return tokens


def join_calls(pieces: list[Piece]) -> list[pb.ToolCall]:
    """The tool calls that the parts in ``pieces`` make, in the order of their index."""
    calls: dict[int, pb.ToolCall] = {}
    for part in (piece.tool_call for piece in pieces if piece.tool_call is not None):
        call = calls.setdefault(part.index, pb.ToolCall(index=part.index))
        call.id += part.id
        call.name += part.name
        call.arguments += part.arguments
    return [calls[index] for index in sorted(calls)]
