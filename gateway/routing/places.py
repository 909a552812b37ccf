"""How many requests there may be at once: on a worker, of a name on a worker, or at a model's server."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

T = TypeVar("T")

ROTATE = 3.0
"""Seconds after which another gateway gets what cannot be shared evenly: more than it takes to hear of a free place."""


@dataclass(eq=False, kw_only=True)
class Places:
    """``in_flight`` counts our requests, ``elsewhere`` those of other gateways."""

    capacity: int = 1
    elsewhere: int = 0
    in_flight: int = 0
    fair: int | None = None
    """How many are ours while requests wait at other gateways too; None where all are."""

    @property
    def load(self) -> int:
        return self.in_flight + self.elsewhere

    @property
    def has_room(self) -> bool:
        return self.load < self.capacity and (self.fair is None or self.in_flight < self.fair)

    def mark_full(self) -> None:
        """Count it as full until the next status: a request was refused, as other gateways were faster."""
        self.elsewhere = max(self.elsewhere, self.capacity - self.in_flight + 1)


@dataclass(frozen=True)
class Told:
    """What a worker tells of one name: its limit, and other gateways' requests that run there; and those that wait.

    ``server`` is the model's server whose limit it is, or 0.
    """

    server: int
    capacity: int
    running: Mapping[str, int] = field(default_factory=dict)
    waiting: Mapping[str, int] = field(default_factory=dict)


class Sum:
    """What workers tell of the names that share their places, added up: however many tell, one more costs the same."""

    def __init__(self, told: Iterable[tuple[str, Told]] = ()) -> None:
        self.capacities: Counter[int] = Counter()
        """By capacity: how often it is told."""
        self.running: Counter[str] = Counter()
        self.waiting: dict[str, Mapping[str, int]] = {}
        """By name: the latest, which is the same for all workers. Names for which none waits are left out."""
        self._names: Counter[str] = Counter()
        for name, one in told:
            self.add(name, one)

    def __bool__(self) -> bool:
        return bool(self._names)

    def add(self, name: str, told: Told) -> None:
        self._names[name] += 1
        self.capacities[told.capacity] += 1
        self.running.update(told.running)
        self.waiting.pop(name, None)
        if told.waiting:
            self.waiting[name] = told.waiting

    def remove(self, name: str, told: Told) -> None:
        """Take away what was added."""
        _take(self._names, name)
        _take(self.capacities, told.capacity)
        for gateway, count in told.running.items():
            _take(self.running, gateway, count)
        if name not in self._names:
            self.waiting.pop(name, None)


def _take(counts: Counter[T], key: T, count: int = 1) -> None:
    counts[key] -= count
    if not counts[key]:
        del counts[key]


class Shares:
    """How gateways share what is scarce. ``turn`` counts :data:`ROTATE` by the wall clock, the same for all of them."""

    def __init__(self, gateway_id: str) -> None:
        self._gateway_id = gateway_id

    def count(self, places: Places, told: Sum, turn: int) -> None:
        """Set what ``places`` has, by what workers tell of its names."""
        # In a rollout workers differ for a while: the smaller number cannot be too much for the server.
        places.capacity = min(told.capacities)
        places.elsewhere = sum(told.running.values())
        queued = sum(map(Counter, told.waiting.values()), Counter[str]())
        places.fair = self._share(places.capacity, told.running + queued, turn) if queued else None

    def _share(self, left: int, demands: Mapping[str, int], turn: int) -> int:
        """Ours of ``left`` places: those who want less than an equal share get it, the others share the rest."""
        count, least = len(demands) + 1, 0
        for least in sorted(demands.values()):
            if least * count >= left:
                break
            left -= least
            count -= 1
        share, odd = divmod(left, count)
        equals = sorted([self._gateway_id, *(gateway for gateway, demand in demands.items() if demand >= least)])
        return share + ((equals.index(self._gateway_id) - turn) % len(equals) < odd)


@dataclass(eq=False, kw_only=True)
class ServerPlaces(Places):
    """Those of one model's server, whichever workers and names ask it."""

    told: Sum = field(default_factory=Sum)


class Servers:
    """The places of all models' servers that workers tell of."""

    def __init__(self, shares: Shares) -> None:
        self._shares = shares
        self._servers: dict[int, ServerPlaces] = {}
        self._told: dict[str, Mapping[str, Told]] = {}

    def hear(self, worker_id: str, told: Mapping[str, Told], turn: int) -> dict[str, Places]:
        """The places of each name's server. ``told`` takes the place of what the worker has told before."""
        before = self._told.pop(worker_id, {})
        for name, old in before.items():
            self._servers[old.server].told.remove(name, old)
        for name, new in told.items():
            self._servers.setdefault(new.server, ServerPlaces()).told.add(name, new)
        for server in {one.server for one in (*before.values(), *told.values())}:
            places = self._servers[server]
            if places.told:
                self._shares.count(places, places.told, turn)
            else:
                del self._servers[server]
        if told:
            self._told[worker_id] = told
        return {name: self._servers[new.server] for name, new in told.items()}
