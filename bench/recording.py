"""A reply as it arrived, and the check that it is exact, which is done after the load has ended."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import httptools
import orjson

from bench.order import CLOSING, OPENING, TOOL, Kind, Order, Token

_BLANK_LINE = re.compile(rb"\r?\n\r?\n")


class Arrival(NamedTuple):
    """A token and when it was read, in seconds of the monotonic clock."""

    token: Token
    at: float

    @property
    def delay(self) -> float:
        """Seconds since the backend sent it."""
        return self.at - self.token.sent / 1e6


@dataclass
class Recording:
    """What was read in answer to one request, and when. ``cut`` is when the client closed the connection."""

    order: Order
    asked: float
    segments: list[tuple[float, bytes]] = field(default_factory=list)
    complete: bool = False
    """Whether the HTTP response ended properly."""
    cut: float | None = None


@dataclass
class Reply:
    """A recording after parsing. ``faults`` says what is not exact about it; an exact reply has none."""

    order: Order
    arrivals: list[Arrival]
    faults: list[str]
    asked: float

    @property
    def first_token(self) -> float | None:
        """Seconds from the request to the first token; None if none came."""
        return self.arrivals[0].at - self.asked if self.arrivals else None


class _Body:
    """Collects server-sent events from an HTTP response that is fed in pieces."""

    def __init__(self) -> None:
        self.now = 0.0
        self.events: list[tuple[float, bytes]] = []
        self.raw: list[bytes] = []
        self._rest = b""

    def on_body(self, data: bytes) -> None:
        self.raw.append(data)
        *whole, self._rest = _BLANK_LINE.split(self._rest + data)
        self.events.extend((self.now, event) for event in whole)


def read(recording: Recording) -> Reply:
    """Parse a recording and check that it is exact."""
    body = _Body()
    parser = httptools.HttpResponseParser(body)
    for body.now, data in recording.segments:
        parser.feed_data(data)
    order, whole = recording.order, recording.cut is None
    status = parser.get_status_code() if recording.segments else 0
    if status != 200:
        words = b"".join(body.raw)[:200].decode(errors="replace")
        return Reply(order, [], [f"status {status}: {words}"] if whole else [], recording.asked)
    content = _Content(order)
    for at, event in body.events:
        content.read(at, event)
    arrivals = content.arrivals(whole)
    faults = content.faults + check([arrival.token for arrival in arrivals], order, whole)
    if whole and not (content.finished and content.done and recording.complete):
        faults.append("ended early: no finish reason, no [DONE] or no end of the answer")
    return Reply(order, arrivals, faults, recording.asked)


def check(tokens: list[Token], order: Order, whole: bool) -> list[str]:
    """How these tokens differ from the reply to ``order``, or from its beginning if it is not ``whole``."""
    faults = []
    expected = 0
    for token in tokens:
        if token.id != order.id:
            faults.append(f"misdelivered: token {token.place} of {token.id} in {order.id}")
        elif token.place > expected:
            faults.append(f"lost: {expected} to {token.place - 1}")
            expected = token.place + 1
        elif token.place < expected:
            faults.append(f"repeated or late: {token.place} after {expected - 1}")
        else:
            expected += 1
    if expected > order.tokens:
        faults.append(f"too many: {expected} of {order.tokens}")
    elif whole and expected < order.tokens:
        faults.append(f"lost: {expected} to {order.tokens - 1}, the end")
    return faults


class _Content:
    """The content of one reply's events. ``faults`` lists whatever does not belong into a reply to this order."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._texts: list[tuple[float, str]] = []
        self._calls: list[tuple[str | None, str]] = []
        self.faults: list[str] = []
        self.finished = self.done = False

    def read(self, at: float, event: bytes) -> None:
        for line in event.split(b"\n"):
            data = line.removeprefix(b"data:").strip()
            if not line.startswith(b"data:"):
                continue
            if data == b"[DONE]":
                self.done = True
            else:
                self._chunk(at, orjson.loads(data))

    def _chunk(self, at: float, chunk: dict[str, Any]) -> None:
        if "error" in chunk:
            self.faults.append(f"error: {chunk['error']}")
        for choice in chunk.get("choices") or ():
            if reason := choice.get("finish_reason"):
                self.finished = True
                if reason != _FINISHES[self._order.kind]:
                    self.faults.append(f"finished by {reason}")
            for kind, text in self._delta(choice.get("delta") or {}):
                if kind == self._order.kind:
                    self._texts.append((at, text))
                else:
                    self.faults.append(f"{kind} in a reply of {self._order.kind}: {text[:60]!r}")

    def _delta(self, delta: dict[str, Any]) -> Iterator[tuple[Kind, str]]:
        if text := delta.get("content"):
            yield "text", text
        if text := delta.get("reasoning_content"):
            yield "reasoning", text
        for part in delta.get("tool_calls") or ():
            call = part.get("function") or {}
            if part.get("index") != 0:
                self.faults.append(f"tool call {part.get('index')}, where there is one")
            if name := call.get("name"):
                self._calls.append((part.get("id"), name))
            if text := call.get("arguments"):
                yield "tools", text

    def arrivals(self, whole: bool) -> list[Arrival]:
        """The tokens, each with the time at which its end came."""
        if self._order.kind != "tools":
            return self._tokens("", "", whole)
        calls = [(f"call_{self._order.id}", TOOL)]
        if self._calls != calls and (whole or self._calls):
            self.faults.append(f"tool calls {self._calls} instead of {calls}")
        return self._tokens(OPENING, CLOSING, whole)

    def _tokens(self, opening: str, closing: str, whole: bool) -> list[Arrival]:
        """The tokens between ``opening``, which ends with a space as a token does, and ``closing``."""
        arrivals = []
        expected = opening.strip()
        rest = ""
        for at, text in self._texts:
            *parts, rest = (rest + text).split(" ")
            for part in parts:
                if expected and part == expected:
                    expected = ""
                    continue
                try:
                    arrivals.append(Arrival(Token.parse(part), at))
                except ValueError:
                    self.faults.append(f"garbled: {part[:60]!r}")
        if whole and (rest != closing or expected):
            self.faults.append(f"garbled: {rest[:60]!r} at the end instead of {closing!r}")
        return arrivals


_FINISHES: dict[Kind, str] = {"text": "stop", "reasoning": "stop", "tools": "tool_calls"}
