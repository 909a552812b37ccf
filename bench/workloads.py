"""The loads that targets are measured with. Times are in seconds; ``pace`` is in milliseconds, as in an order."""

import math
from dataclasses import dataclass

from bench.order import Kind

SETTLE = 0.3
"""From the start of the last stream to the window."""
LATE = 2.0
"""How long streams may continue after they should have ended."""


@dataclass(frozen=True)
class Paced:
    """``streams`` streams with a token every ``pace`` ms each.

    CPU is counted in a window after the ramp, in which all streams flow and no request begins or ends.
    """

    name: str
    streams: int
    pace: float
    ramp: float
    window: float = 2.0
    history: int = 0
    kind: Kind = "text"

    @property
    def tokens(self) -> int:
        """Enough for the first stream to flow until the window has ended."""
        return math.ceil((self.ramp + SETTLE + self.window + 0.2) * 1000 / self.pace)

    @property
    def limit(self) -> float:
        """When the clients of late streams leave."""
        return self.ramp + self.tokens * self.pace / 1000 + LATE


@dataclass(frozen=True)
class Idle:
    """One client that sends short requests one after the other on one connection, without other load."""

    name: str = "idle"
    requests: int = 200
    tokens: int = 8


@dataclass(frozen=True)
class Chats:
    """Clients that send one request after the other: what requests cost is a part of what each token does."""

    name: str = "chats16"
    streams: int = 16
    requests: int = 12
    tokens: int = 100
    pace: float = 5.0
    ramp: float = 0.5
    settle: float = 5.5
    """From the last reply until CPU is read: what is done after a request counts too. Spans are exported every 5 s."""


@dataclass(frozen=True)
class Flat:
    """The backend sends as fast as it is read.

    The window begins with the first request, because some targets pass the streams on one after the other. The clients
    leave when it ends.
    """

    name: str
    streams: int = 16
    window: float = 2.5
    tokens: int = 30_000


@dataclass(frozen=True)
class Memory:
    """Open streams without tokens, in a target that has just started."""

    name: str = "memory"
    streams: int = 1000
    ramp: float = 3.0
    hold: float = 1.0
    """From the opening of the last one until memory is read."""


@dataclass(frozen=True)
class Stalled:
    """Clients that read nothing of long replies, in a target that has just started."""

    name: str = "stalled"
    clients: int = 10
    tokens: int = 50_000
    hold: float = 3.0
    """From the requests until memory is read."""


@dataclass(frozen=True)
class Leaving:
    """Clients that leave in the middle of a reply, and before its first token."""

    name: str = "leaving"
    clients: int = 20
    within: float = 2.0
    """A connection of the backend that closes later counts as not closed."""


@dataclass(frozen=True)
class Ceiling:
    """As many batches as one host can pass on."""

    name: str = "ceiling"
    window: float = 3.0


Workload = Ceiling | Paced | Idle | Chats | Flat | Memory | Stalled | Leaving

BUSY = Paced("paced200", 200, 20, ramp=1.0)
CROWD = Paced("paced1000", 1000, 50, ramp=4.0)
FLAT = Flat("flat16")


def each(workers: int) -> Paced:
    """The same load for each of ``workers`` workers."""
    return Paced("each25", 25 * workers, 20, ramp=1.0)


MANY = Flat("flat64", streams=64)

STANDARD: tuple[Workload, ...] = (
    Memory(),
    Stalled(),
    Idle(),
    Chats(),
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
"""Memory comes first, before other work has made a target grow."""
