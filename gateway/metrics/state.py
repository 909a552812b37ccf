"""What is read of the gateway's parts at each scrape: the queue, the workers and what they serve."""

import time
from collections import Counter
from collections.abc import Iterator, Sized
from dataclasses import dataclass
from itertools import islice

from prometheus_client.metrics_core import Metric as Family

from fleet import logs
from fleet.metrics.exposition import by_label, counter, gauge, plain
from fleet.metrics.names import Served
from fleet.metrics.values import NAMES, STATES
from gateway.faces.bodies import Bodies
from gateway.routing.admission import Admission
from gateway.routing.breaker import Breakers
from gateway.routing.directory import Directory, Worker
from gateway.routing.load import describe_load
from gateway.routing.places import Places
from gateway.settings import GatewaySettings


@dataclass(eq=False)
class GatewayState:
    """``connections`` are clients' open ones."""

    settings: GatewaySettings
    directory: Directory
    admission: Admission
    breakers: Breakers
    served: Served
    bodies: Bodies
    connections: Sized
    logged: logs.Counts

    def collect(self) -> Iterator[Family]:
        now = time.monotonic()
        yield gauge("chatfleet_http_connections", plain(len(self.connections)))
        yield gauge("chatfleet_body_memory_bytes", plain(self.bodies.held))
        yield gauge("chatfleet_body_memory_limit_bytes", plain(self.settings.bodies_memory))
        yield counter("chatfleet_lanes_broken_total", plain(self.logged["warning", "lane broken"]))
        yield from self._queue()
        yield from self._workers(now)
        ready = self.directory.ready(now)
        yield from self._load(ready)
        yield from self._models(ready, now)

    def _queue(self) -> Iterator[Family]:
        waiting = Counter(dict.fromkeys(self.served.names, 0))
        for model, count in self.admission.waiting_for().items():
            waiting[self.served(model)] += count
        yield gauge("chatfleet_num_requests_waiting", by_label(waiting))
        yield gauge("chatfleet_queue_limit", plain(self.settings.queue_limit))
        yield gauge("chatfleet_queue_oldest_seconds", plain(self.admission.oldest()))

    def _workers(self, now: float) -> Iterator[Family]:
        states = Counter(worker.shown_state(now).lower() for worker in self.directory)
        yield gauge("chatfleet_workers", by_label(dict.fromkeys(STATES, 0) | states))
        workers = list(islice(self.directory, NAMES))
        yield gauge("chatfleet_worker_capacity", (((worker.id,), worker.capacity) for worker in workers))
        yield gauge("chatfleet_worker_active", (((worker.id,), worker.load) for worker in workers))
        ages = (((worker.id,), max(0.0, now - worker.heard_at)) for worker in workers)
        yield gauge("chatfleet_worker_status_age_seconds", ages)

    def _load(self, ready: list[Worker]) -> Iterator[Family]:
        load = describe_load(self.directory, ready, self.admission.waiting_for())
        for name in ("ratio", "workers_ratio"):
            ratio = load[name]
            yield gauge(f"chatfleet_load_{name}", plain(ratio) if isinstance(ratio, float) else ())

    def _models(self, ready: list[Worker], now: float) -> Iterator[Family]:
        workers = Counter(dict.fromkeys(self.served.names, 0))
        places: dict[str, set[Places]] = {name: set() for name in workers}
        """Workers may share those of one server."""
        limited = set()
        for worker in ready:
            for model in worker.models:
                name = self.served(model)
                workers[name] += 1
                places.setdefault(name, set()).add(worker.limited.get(model, worker))
                if model in worker.limited:
                    limited.add(name)
        yield gauge("chatfleet_model_workers", by_label(workers))
        capacity = {name: sum(one.capacity for one in own) for name, own in places.items()}
        yield gauge("chatfleet_model_capacity", by_label(capacity))
        active = {name: sum(one.load for one in places[name]) for name in limited}
        yield gauge("chatfleet_model_active", by_label(active))
        broken: Counter[str] = Counter()
        for worker in ready:
            is_blocked = self.breakers.blocks(worker.id, now)
            if is_blocked or worker.failing:
                broken.update(self.served(model) for model in worker.models if is_blocked or worker.fails_with(model))
        yield gauge("chatfleet_breakers_open", by_label(dict.fromkeys(self.served.names, 0) | broken))
