"""What a request asks of the backend, and what each token of the reply says.

An :class:`Order` travels as the end of the user's message, which every gateway passes on as it is. Each token says
whose it is, its place and when it was sent, so that a lost, repeated or strayed one shows, and so does its delay.
"""

import re
from dataclasses import dataclass
from typing import NamedTuple, Self

_ORDER = re.compile(rb"bench order (\w+) tokens=(\d+) pace=(\d+(?:\.\d+)?) first=(\d+(?:\.\d+)?)")


@dataclass(frozen=True)
class Order:
    """A reply of so many ``tokens``, the first after ``first`` ms, then one every ``pace`` ms (0: flat out)."""

    id: str
    tokens: int
    pace: float = 0.0
    first: float = 0.0

    def text(self) -> str:
        """The form in which :meth:`find` recognises it."""
        return f"bench order {self.id} tokens={self.tokens} pace={self.pace:f} first={self.first:f}"

    @classmethod
    def find(cls, body: bytes) -> Self | None:
        """The order at the end of a request's JSON, if there is one."""
        start = body.rfind(b"bench order ")
        match = _ORDER.match(body, start) if start >= 0 else None
        if match is None:
            return None
        return cls(match[1].decode(), int(match[2]), float(match[3]), float(match[4]))


TOKEN = b"%b.%d.%d "
"""A token's text: whose, which and when. The space ends it, whatever it was merged with on the way."""


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
