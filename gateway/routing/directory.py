"""The workers that this gateway knows, from their statuses and the host's notices.

Pure: ``now`` is in seconds of any monotonic clock; ``wall`` is the clock that gateways have in common.
"""

import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from gateway.routing.peers import Peers
from gateway.routing.places import ROTATE, Places, ServerPlaces, Servers, Shares, Sum, Told
from protos import chat_pb2 as pb

FRESH = 2.5
"""Seconds after its last status for which a worker gets requests: it may miss two statuses, of one a second."""

RETURN_WITHIN = 0.8
"""Seconds in which a worker must be back after its connection ended: a dropped link is, a dead process is not."""

MODELS = 1000

NAMED = 10_000
NAME = 256
"""Names that are remembered, and the characters of one."""

CHAT = "chat"
"""The endpoint that every model has of which a worker says nothing else."""

ENDPOINTS = 8
"""Of a model."""

DESCRIPTION = 1000
"""Characters of a model's or an agent's; workers send no more."""

_ONLY_CHAT = frozenset({CHAT})


@dataclass(eq=False)
class Failing:
    """What a worker says of a model that fails for everyone."""

    code: str
    since: float
    is_trial: bool
    """Whether it wants one more request, to find out whether it is still so."""


@dataclass(eq=False)
class Worker(Places):
    """One worker, as this gateway sees it."""

    id: str
    models: tuple[str, ...] = ()
    endpoints: Mapping[str, frozenset[str]] = field(default_factory=dict)
    routes: tuple[int, ...] = ()
    """How it reaches each of its models; 0, or nothing from workers of the version before, where it is not known."""
    descriptions: Mapping[str, str] = field(default_factory=dict)
    limited: dict[str, Places] = field(default_factory=dict)
    """By name, of those with a limit of their own: on this worker, or at the model's server."""
    failing: Mapping[tuple[str, str], Failing] = field(default_factory=dict)
    """By name and endpoint."""
    state: pb.WorkerState = pb.WORKER_STATE_READY
    version: str = ""
    active: int = 0
    started_total: int = 0
    heard_at: float = 0.0
    left_at: float | None = None
    confirmed: bool = True
    """Whether it was heard since our link last came up. Until then it may be gone."""

    @property
    def default(self) -> str:
        return self.models[0] if self.models else ""

    def places(self, model: str) -> list[Places]:
        """The places of which a request for ``model`` needs one each."""
        own = self.limited.get(model or self.default)
        return [self] if own is None else [self, own]

    def has_room_for(self, model: str) -> bool:
        return all(places.has_room for places in self.places(model))

    def share(self, model: str) -> tuple[float, float]:
        """The share in use of its places, or of the model's if that is larger; then its own."""
        return max(places.load / places.capacity for places in self.places(model)), self.load / self.capacity

    def serves(self, model: str, endpoint: str = CHAT) -> bool:
        """Whether it serves ``model`` so. The empty name stands for chats with its first model."""
        if not model:
            return endpoint == CHAT and CHAT in self.endpoints.get(self.default, _ONLY_CHAT)
        return model in self.models and endpoint in self.endpoints.get(model, _ONLY_CHAT)

    def blocks(self, model: str, endpoint: str) -> bool:
        """Whether requests had better go to other workers."""
        failing = self.failing.get((model or self.default, endpoint))
        return failing is not None and not failing.is_trial

    def chosen(self, model: str, endpoint: str) -> None:
        """A request is sent there. If it is a trial, it is the only one until the worker asks for another."""
        if failing := self.failing.get((model or self.default, endpoint)):
            failing.is_trial = False

    def fails_with(self, model: str) -> Failing | None:
        """What it says of a model that fails: with chats, or where it has none with any of its endpoints."""
        if not self.failing:
            return None
        endpoints = self.endpoints.get(model, _ONLY_CHAT)
        asked = (CHAT,) if CHAT in endpoints else sorted(endpoints)
        return next((found for endpoint in asked if (found := self.failing.get((model, endpoint)))), None)

    def route(self, model: str) -> int:
        """How it reaches ``model``: the same for workers with the same address and key of a provider."""
        at = self.models.index(model) if model in self.models else 0
        return self.routes[at] if at < len(self.routes) else 0

    def is_ready(self, now: float) -> bool:
        fresh = self.confirmed and self.left_at is None and now - self.heard_at <= FRESH
        return fresh and self.state == pb.WORKER_STATE_READY

    def shown_state(self, now: float) -> str:
        state = pb.WorkerState.Name(self.state).removeprefix("WORKER_STATE_") if self.state in _NAMED else "UNKNOWN"
        return "SILENT" if state == "READY" and not self.is_ready(now) else state

    def describe(self, now: float) -> dict[str, object]:
        return {
            "id": self.id,
            "state": self.shown_state(now),
            "models": list(self.models),
            "endpoints": {model: sorted(names) for model, names in self.endpoints.items()},
            "descriptions": dict(self.descriptions),
            "limited": {
                name: {"concurrency": places.capacity, "active": places.load} for name, places in self.limited.items()
            },
            "failing": [
                {"model": name, "endpoint": endpoint, "code": failing.code, "seconds": round(now - failing.since, 1)}
                for (name, endpoint), failing in self.failing.items()
            ],
            "capacity": self.capacity,
            "active": self.active,
            "in_flight": self.in_flight,
            "started_total": self.started_total,
            "version": self.version,
            "heard_seconds_ago": round(max(0.0, now - self.heard_at), 3),
        }


def _code(text: str) -> str:
    return text if re.fullmatch("[a-z0-9_]{1,64}", text) else "unknown"


_NAMED = frozenset(pb.WorkerState.values())


class Directory:
    """All known workers. A worker enters with its first status, and leaves with its last or by :meth:`expire`."""

    def __init__(
        self,
        gateway_id: str,
        gone_after: float,
        peers: Peers | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._gateway_id = gateway_id
        self._gone_after = gone_after
        self._workers: dict[str, Worker] = {}
        self._named: dict[tuple[str, str], float] = {}
        self._shares = Shares(gateway_id)
        self._servers = Servers(self._shares)
        self._wall = wall
        self._peers = peers or Peers(gateway_id)

    def __iter__(self) -> Iterator[Worker]:
        return iter(self._workers.values())

    def __len__(self) -> int:
        return len(self._workers)

    def get(self, worker_id: str) -> Worker | None:
        return self._workers.get(worker_id)

    def heard(self, status: pb.WorkerStatus, now: float) -> bool:
        """Update a worker by its status. True if it was known and says that it leaves: it is then forgotten."""
        if status.state == pb.WORKER_STATE_LEFT:
            return self._forget(status.worker_id)
        worker = self._workers.setdefault(status.worker_id, Worker(status.worker_id))
        worker.models = tuple(status.models[:MODELS])
        worker.routes = tuple(status.routes[:MODELS])
        worker.endpoints = {
            model: frozenset(status.endpoints[model].names[:ENDPOINTS])
            for model in worker.models
            if model in status.endpoints
        }
        self._hear_details(
            worker, {name: status.details[name] for name in worker.models if name in status.details}, now
        )
        worker.failing = self._failing(worker, status, now)
        self._remember(worker, now)
        worker.capacity = max(1, status.capacity)
        worker.state = status.state
        worker.version = status.version
        worker.active = status.active
        worker.started_total = status.started_total
        worker.elsewhere = self._elsewhere(status.active_by_gateway)
        worker.heard_at = now
        worker.left_at = None
        worker.confirmed = True
        return False

    def _failing(self, worker: Worker, status: pb.WorkerStatus, now: float) -> dict[tuple[str, str], Failing]:
        names, found = frozenset(worker.models), dict[tuple[str, str], Failing]()
        for told in status.failing:
            key = told.name, told.endpoint
            is_served = told.name in names and told.endpoint in worker.endpoints.get(told.name, _ONLY_CHAT)
            if is_served and key not in found and len(found) < MODELS:
                found[key] = Failing(_code(told.code), now - told.since.ToNanoseconds() / 1e9, told.trial)
        return found

    def _hear_details(self, worker: Worker, details: Mapping[str, pb.Details], now: float) -> None:
        descriptions = {name: told.description[:DESCRIPTION] for name, told in details.items()}
        worker.descriptions = {name: description for name, description in descriptions.items() if description}
        told = {name: self._told(name, one, now) for name, one in details.items() if one.concurrency}
        turn = int(self._wall() // ROTATE)
        known = {name: places for name, places in worker.limited.items() if not isinstance(places, ServerPlaces)}
        worker.limited = {name: known.get(name, Places()) for name, one in told.items() if not one.server}
        for name, places in worker.limited.items():
            self._shares.count(places, Sum([(name, told[name])]), turn)
        at_servers = {name: one for name, one in told.items() if one.server}
        worker.limited |= self._servers.hear(worker.id, at_servers, turn)

    def _told(self, name: str, details: pb.Details, now: float) -> Told:
        running = self._others(details.active_by_gateway)
        return Told(details.server, details.concurrency, running, self._peers.waiting(name, now))

    def _others(self, counts: Mapping[str, int]) -> dict[str, int]:
        return {gateway: count for gateway, count in counts.items() if gateway != self._gateway_id}

    def _elsewhere(self, active: Mapping[str, int]) -> int:
        return sum(self._others(active).values())

    def left(self, member: pb.MemberLeft, now: float) -> bool:
        """The host reports the end of a member's connection. True if that is a worker that may be dead."""
        worker = self._workers.get(member.member_id)
        if worker is None or member.kind != "worker" or member.cause == pb.LEAVE_CAUSE_SILENT:
            return False
        worker.left_at = now
        return True

    def relinked(self, now: float) -> None:
        """Our link is back: every silence counts from now, and no worker is ready before it is heard again."""
        for worker in self._workers.values():
            worker.heard_at = now
            worker.left_at = None
            worker.confirmed = False

    def expire(self, now: float) -> list[str]:
        """Forget the workers that did not come back or were silent for too long; returns their ids."""
        gone = [worker.id for worker in self if self._is_gone(worker, now)]
        for worker_id in gone:
            self._forget(worker_id)
        return gone

    def _forget(self, worker_id: str) -> bool:
        self._servers.hear(worker_id, {}, int(self._wall() // ROTATE))
        return self._workers.pop(worker_id, None) is not None

    def silent(self, now: float) -> list[str]:
        return [worker.id for worker in self if now - worker.heard_at > FRESH]

    def ready(self, now: float) -> list[Worker]:
        return [worker for worker in self if worker.is_ready(now)]

    def described(self, now: float) -> dict[str, str]:
        """What the ready workers serve, the default first, with its description if one of them has it."""
        found: dict[str, str] = {}
        for worker in self.ready(now):
            for model in worker.models:
                found[model] = found.get(model) or worker.descriptions.get(model, "")
        return found

    def names(self) -> set[str]:
        """What the known workers serve, ready or not."""
        return {model for worker in self for model in worker.models if len(model) <= NAME}

    def models(self, endpoint: str = CHAT) -> list[str]:
        found = (model for worker in self for model in worker.models if worker.serves(model, endpoint))
        return list(dict.fromkeys(found))

    def named_since(self, model: str, endpoint: str, since: float) -> bool:
        """Whether any worker announced ``model`` so after ``since``; one that restarts will do so again."""
        return self._named.get((model, endpoint), float("-inf")) >= since

    def _remember(self, worker: Worker, now: float) -> None:
        for model in worker.models:
            if len(model) > NAME:
                continue
            for endpoint in worker.endpoints.get(model, _ONLY_CHAT):
                self._named.pop((model, endpoint), None)
                self._named[model, endpoint] = now
        while len(self._named) > NAMED:
            del self._named[next(iter(self._named))]

    def _is_gone(self, worker: Worker, now: float) -> bool:
        if worker.left_at is not None:
            return now - worker.left_at > RETURN_WITHIN
        return now - worker.heard_at > self._gone_after
