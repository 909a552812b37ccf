"""How many requests there may be at once: on a worker, of a name on a worker, or at a model's server."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(eq=False, kw_only=True)
class Places:
    """``in_flight`` counts our requests, ``elsewhere`` those of other gateways."""

    capacity: int = 1
    elsewhere: int = 0
    in_flight: int = 0

    @property
    def load(self) -> int:
        return self.in_flight + self.elsewhere

    @property
    def has_room(self) -> bool:
        return self.load < self.capacity

    def mark_full(self) -> None:
        """Count it as full until the next status: a request was refused, as other gateways were faster."""
        self.elsewhere = max(self.elsewhere, self.capacity - self.in_flight + 1)


@dataclass(eq=False, kw_only=True)
class ServerPlaces(Places):
    """Those of one model's server, whichever workers and names ask it."""

    told: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)
    """By each worker and name: the server's capacity, and other gateways' requests."""

    def count(self) -> None:
        # In a rollout workers differ for a while: the smaller number cannot be too much for the server.
        self.capacity = min(capacity for capacity, _ in self.told.values())
        self.elsewhere = sum(others for _, others in self.told.values())


@dataclass(frozen=True)
class Told:
    """What a worker tells of one name's server."""

    server: int
    capacity: int
    others: int


class Servers:
    """The places of all models' servers that workers tell of."""

    def __init__(self) -> None:
        self._servers: dict[int, ServerPlaces] = {}
        self._told: dict[str, Mapping[str, Told]] = {}

    def hear(self, worker_id: str, told: Mapping[str, Told]) -> dict[str, Places]:
        """The places of each name's server. ``told`` takes the place of what the worker has told before."""
        before = self._told.pop(worker_id, {})
        for name, old in before.items():
            del self._servers[old.server].told[worker_id, name]
        for name, new in told.items():
            places = self._servers.setdefault(new.server, ServerPlaces())
            places.told[worker_id, name] = new.capacity, new.others
        for server in {one.server for one in (*before.values(), *told.values())}:
            if self._servers[server].told:
                self._servers[server].count()
            else:
                del self._servers[server]
        if told:
            self._told[worker_id] = told
        return {name: self._servers[new.server] for name, new in told.items()}
