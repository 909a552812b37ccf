"""One reply as it arrived, and what it says once it is taken apart, which happens after the run."""

import re
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import httptools
import orjson

from bench.order import Order, Token

_BLANK_LINE = re.compile(rb"\r?\n\r?\n")


class Arrival(NamedTuple):
    """A token and when it was read: seconds of the monotonic clock."""

    token: Token
    at: float

    @property
    def delay(self) -> float:
        """Seconds from the backend's sending it."""
        return self.at - self.token.sent / 1e6


@dataclass
class Recording:
    """What was read in answer to one request, and when. ``cut`` is when we closed the connection ourselves."""

    order: Order
    asked: float
    segments: list[tuple[float, bytes]] = field(default_factory=list)
    complete: bool = False
    """Whether the HTTP answer ended as it should."""
    cut: float | None = None


@dataclass
class Reply:
    """A recording taken apart. ``faults`` names everything that an exact reply does not have; empty is exact."""

    order: Order
    arrivals: list[Arrival]
    faults: list[str]
    asked: float

    @property
    def first_token(self) -> float | None:
        """Seconds from asking to the first token, if one came."""
        return self.arrivals[0].at - self.asked if self.arrivals else None


class _Body:
    """Collects server-sent events from an HTTP answer that is fed in pieces."""

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
    """Take a recording apart and check it: see :func:`check`."""
    body = _Body()
    parser = httptools.HttpResponseParser(body)
    for body.now, data in recording.segments:
        parser.feed_data(data)
    faults: list[str] = []
    status = parser.get_status_code() if recording.segments else 0
    texts: list[tuple[float, str]] = []
    finished = False
    if status == 200:
        finished = _texts(body.events, texts, faults)
    elif recording.cut is None:
        faults.append(f"status {status}: {b''.join(body.raw)[:200].decode(errors='replace')}")
    arrivals = _tokens(texts, faults)
    if status == 200:
        whole = recording.cut is None
        faults += check([arrival.token for arrival in arrivals], recording.order, whole)
        if whole and not (finished and recording.complete):
            faults.append("ended early: no finish reason, no [DONE] or no end of the answer")
    return Reply(recording.order, arrivals, faults, recording.asked)


def check(tokens: list[Token], order: Order, whole: bool) -> list[str]:
    """What is wrong with these tokens as a reply to ``order``, or as its beginning if it is not ``whole``."""
    faults = []
    expected = 0
    for token in tokens:
        if token.id != order.id:
            faults.append(f"strayed: token {token.place} of {token.id} in {order.id}")
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


def _texts(events: list[tuple[float, bytes]], texts: list[tuple[float, str]], faults: list[str]) -> bool:
    """Append each event's text to ``texts``; whether the stream said that it was finished."""
    finished = done = False
    for at, event in events:
        for line in event.split(b"\n"):
            data = line.removeprefix(b"data:").strip()
            if not line.startswith(b"data:"):
                continue
            if data == b"[DONE]":
                done = True
                continue
            chunk: dict[str, Any] = orjson.loads(data)
            if "error" in chunk:
                faults.append(f"error: {chunk['error']}")
            for choice in chunk.get("choices") or ():
                finished = finished or bool(choice.get("finish_reason"))
                if content := (choice.get("delta") or {}).get("content"):
                    texts.append((at, content))
    return finished and done


def _tokens(texts: list[tuple[float, str]], faults: list[str]) -> list[Arrival]:
    """The tokens in these texts, each with the time at which its end came."""
    arrivals = []
    rest = ""
    for at, text in texts:
        *whole, rest = (rest + text).split(" ")
        for part in whole:
            try:
                arrivals.append(Arrival(Token.parse(part), at))
            except ValueError:
                faults.append(f"garbled: {part[:60]!r}")
    return arrivals
