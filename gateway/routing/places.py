"""How many requests there may be at once: on a worker, of a name on a worker, or at a model's server."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

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


class Shares:
    """How gateways share what is scarce. ``turn`` counts :data:`ROTATE` by the wall clock, the same for all of them."""

    def __init__(self, gateway_id: str) -> None:
        self._gateway_id = gateway_id

    def count(self, places: Places, told: Iterable[tuple[str, Told]], turn: int) -> None:
        """Set what ``places`` has, by what workers tell of its names."""
        running: Counter[str] = Counter()
        waiting: dict[str, Counter[str]] = {}
        capacities = []
        for name, one in told:
            capacities.append(one.capacity)
            running.update(one.running)
            waiting.setdefault(name, Counter())
            waiting[name] |= Counter(one.waiting)  # the same for all workers
        # In a rollout workers differ for a while: the smaller number cannot be too much for the server.
        places.capacity = min(capacities)
        places.elsewhere = sum(running.values())
        queued = sum(waiting.values(), Counter())
        places.fair = self._share(places.capacity, running + queued, turn) if queued else None

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

    told: dict[tuple[str, str], Told] = field(default_factory=dict)
    """By each worker and name."""


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
            del self._servers[old.server].told[worker_id, name]
        for name, new in told.items():
            self._servers.setdefault(new.server, ServerPlaces()).told[worker_id, name] = new
        for server in {one.server for one in (*before.values(), *told.values())}:
            places = self._servers[server]
            if places.told:
                self._shares.count(places, ((name, one) for (_, name), one in places.told.items()), turn)
            else:
                del self._servers[server]
        if told:
            self._told[worker_id] = told
        return {name: self._servers[new.server] for name, new in told.items()}
