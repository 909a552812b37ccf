"""What a request asks of the backend, and what each token of the reply says.

An :class:`Order` is the end of the user's message, which every gateway passes on unchanged. Each token names its
reply, its place and the time at which it was sent. So the client sees which tokens were lost, repeated or misdelivered,
and how late each one was.
"""

import re
from dataclasses import dataclass
from typing import Literal, NamedTuple, Self, cast

Kind = Literal["text", "reasoning", "tools"]
"""What the tokens of a reply are: text, reasoning, or the arguments of a tool call."""
Frames = Literal["changing", "constant"]
"""What surrounds them: see :mod:`bench.frames`."""

_ORDER = re.compile(
    rb"bench order (\w+) tokens=(\d+) pace=(\d+(?:\.\d+)?) first=(\d+(?:\.\d+)?)"
    rb" kind=(text|reasoning|tools) frames=(changing|constant)"
)


@dataclass(frozen=True)
class Order:
    """A reply of ``tokens`` tokens, the first after ``first`` ms, then one every ``pace`` ms (0: flat out)."""

    id: str
    tokens: int
    pace: float = 0.0
    first: float = 0.0
    kind: Kind = "text"
    frames: Frames = "changing"

    def text(self) -> str:
        """The form in which :meth:`find` recognises it."""
        return (
            f"bench order {self.id} tokens={self.tokens} pace={self.pace:f} first={self.first:f}"
            f" kind={self.kind} frames={self.frames}"
        )

    @classmethod
    def find(cls, body: bytes) -> Self | None:
        """The last order in a request's JSON, if there is one."""
        start = body.rfind(b"bench order ")
        match = _ORDER.match(body, start) if start >= 0 else None
        if match is None:
            return None
        name, tokens, pace, first, kind, frames = (group.decode() for group in match.groups())
        return cls(name, int(tokens), float(pace), float(first), cast("Kind", kind), cast("Frames", frames))


TOKEN = b"%b.%d.%d "
"""A token: its reply, its place and when it was sent. The space ends it, even if tokens were merged on the way."""
TOOL = "note"
"""The tool that replies of the kind ``tools`` call."""
OPENING, CLOSING = '{"text":" ', '"}'
"""What stands around the tokens in the arguments of that call, which are JSON."""


class Token(NamedTuple):
    """One token as it was sent; ``sent`` is a reading of the monotonic clock, which all processes share, in µs."""

    id: str
    place: int
    sent: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a :data:`TOKEN` without its space. Raises ``ValueError`` for anything else."""
        owner, index, sent = text.split(".")
        return cls(owner, int(index), int(sent))
