"""What is asked of every target. Times are seconds, except ``pace``, which is milliseconds as in an order."""

import math
from dataclasses import dataclass

from bench.order import Kind

SETTLE = 0.3
"""From the last stream's beginning to the window."""
LATE = 2.0
"""For how long streams may go on after they should have ended."""


@dataclass(frozen=True)
class Paced:
    """So many streams, a token every ``pace`` ms each. CPU is counted while all of them flow: in the window after the
    ramp, in which no request begins or ends."""

    name: str
    streams: int
    pace: float
    ramp: float
    window: float = 2.0
    history: int = 0
    kind: Kind = "text"

    @property
    def tokens(self) -> int:
        """Enough that the first stream still flows when the window ends."""
        return math.ceil((self.ramp + SETTLE + self.window + 0.2) * 1000 / self.pace)

    @property
    def limit(self) -> float:
        """When all clients have left: late streams are cut."""
        return self.ramp + self.tokens * self.pace / 1000 + LATE


@dataclass(frozen=True)
class Idle:
    """One client, one short request after the other on one connection: what a request costs when nothing else is on."""

    name: str = "idle"
    requests: int = 200
    tokens: int = 8


@dataclass(frozen=True)
class Flat:
    """As many tokens as go through: the backend sends as fast as it is read. The window begins with the first request,
    as some targets let the streams through one after the other; when it ends the clients leave."""

    name: str
    streams: int = 16
    window: float = 2.5
    tokens: int = 30_000


@dataclass(frozen=True)
class Memory:
    """Streams that are open and say nothing, then clients that read nothing of long replies."""

    name: str = "memory"
    streams: int = 1000
    ramp: float = 3.0
    hold: float = 1.0
    """From the last one's opening until memory is looked at."""
    stalled: int = 10
    stalled_tokens: int = 50_000
    stalled_for: float = 3.0


@dataclass(frozen=True)
class Leaving:
    """Clients that leave: in the middle of a reply, and before its first token."""

    name: str = "leaving"
    clients: int = 20
    within: float = 2.0
    """The backend's connection must be closed by then to count as closed at all."""


@dataclass(frozen=True)
class Ceiling:
    """As many batches as one host passes on."""

    name: str = "ceiling"
    window: float = 3.0


Workload = Ceiling | Paced | Idle | Flat | Memory | Leaving

BUSY = Paced("paced200", 200, 20, ramp=1.0)
CROWD = Paced("paced1000", 1000, 50, ramp=4.0)
FLAT = Flat("flat16")


def each(workers: int) -> Paced:
    """The same load for each of so many workers."""
    return Paced("each25", 25 * workers, 20, ramp=1.0)


MANY = Flat("flat64", streams=64)

STANDARD: tuple[Workload, ...] = (
    Memory(),
    Idle(),
    Paced("light16", 16, 50, ramp=0.2),
    Paced("paced16", 16, 5, ramp=0.2),
    Paced("paced16-reasoning", 16, 5, ramp=0.2, kind="reasoning"),
    Paced("paced16-tools", 16, 5, ramp=0.2, kind="tools"),
    BUSY,
    Paced("paced200-reasoning", 200, 20, ramp=1.0, kind="reasoning"),
    Paced("paced200-tools", 200, 20, ramp=1.0, kind="tools"),
    CROWD,
    Paced("history", 16, 5, ramp=0.5, history=20_000),
    FLAT,
    Leaving(),
)
"""In this order: memory first, while a target has not yet grown by other work."""
