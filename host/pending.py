"""Bounds for connections that have not authenticated: how many there may be, and how much they may send together."""

import ipaddress
from collections.abc import Hashable
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


class Pending(Generic[T]):
    """Holds at most ``most`` connections, grouped by source.

    When there are too many, the source with the most loses its oldest one, so no source can keep the others out.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._count = 0
        self._groups: dict[str, dict[T, None]] = {}
        """By source; each group holds its connections in the order in which they came."""

    def __len__(self) -> int:
        return self._count

    def add(self, connection: T, source: str) -> T | None:
        """Hold a new connection; returns the one that must be dropped for it, which is no longer held."""
        self._groups.setdefault(source, {})[connection] = None
        self._count += 1
        if self._count <= self._most:
            return None
        largest = max(self._groups, key=lambda source: len(self._groups[source]))
        oldest = next(iter(self._groups[largest]))
        self.remove(oldest, largest)
        return oldest

    def remove(self, connection: T, source: str) -> None:
        """Forget a connection that has authenticated or ended. Nothing happens when it is not held."""
        group = self._groups.get(source, {})
        if connection not in group:
            return
        del group[connection]
        self._count -= 1
        if not group:
            del self._groups[source]


class Allowance:
    """A token bucket: ``burst`` units at once, and ``rate`` a second from then on.

    Times are seconds of any clock that only goes forward.
    """

    def __init__(self, burst: int, rate: int, now: float) -> None:
        self._burst = burst
        self._rate = rate
        self._level = float(burst)
        self._at = now

    def wait(self, size: int, now: float) -> float:
        """Seconds until ``size`` units may pass."""
        self._level = min(self._burst, self._level + (now - self._at) * self._rate)
        self._at = now
        return max(0.0, (size - self._level) / self._rate)

    def spend(self, size: int) -> None:
        """Count what passes, or will after its wait. What comes later waits for longer."""
        self._level -= size


def source_of(host: str) -> str:
    """What counts as one source: an IPv4 address, or the 64 bits of an IPv6 address that name its network."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(address), 64), strict=False))
