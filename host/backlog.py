"""Bounds what waits for a member to read it, so that no sender can fill the host's memory or cut a receiver off.

A receiver is not dropped for what others send: two gateways that send requests of 8 MiB as fast as they can put 64 MiB
in a worker's way within one busy second of its event loop. Their own events are dropped instead. What must arrive is
sent again: lanes repeat their batches, workers their statuses, and a request that no worker accepts is tried again.
"""

import time
from collections.abc import Callable, Hashable

MIB = 1024 * 1024

FREE = 16 * MIB
"""An event of any size may be added while no more bytes wait."""
SHARE = 12 * MIB
"""Bytes that one sender may add while more than :data:`FREE` wait: one request of a gateway with the default bound."""
EVENTS = 48 * MIB
"""Bytes of all senders that may wait together."""
WAITING = 64 * MIB
"""Bytes that may wait for a member, with the host's own pongs and news. When there are more it is dropped."""

STUCK_AFTER = 10.0
"""Seconds for which a member may read nothing of what is too much. As long as a member may be silent."""


class Backlog:
    """Decides whether another event may wait for a member. Sizes are in bytes."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._shares: dict[Hashable, int] = {}
        """By sender, since more than :data:`FREE` wait."""
        self._waiting = 0
        self._read_at = 0.0

    def admits(self, sender: Hashable, size: int, waiting: int) -> bool:
        """Whether the sender's event may wait behind the ``waiting`` bytes."""
        if waiting <= FREE:
            if self._shares:
                self._shares.clear()
            return True
        if not self._shares or waiting < self._waiting:
            self._read_at = self._clock()
        share = self._shares.get(sender, 0)
        fits = share + size <= SHARE and waiting + size <= EVENTS
        self._shares[sender] = share + size * fits
        self._waiting = waiting + size * fits
        return fits

    def is_stuck(self) -> bool:
        """Whether the member has read nothing for too long. Ask after an event was refused."""
        return self._clock() - self._read_at > STUCK_AFTER
