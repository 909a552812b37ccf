"""What is read of the gateway's parts at each scrape: the queue, the workers and what they serve."""

import time
from collections import Counter
from collections.abc import Iterator, Sized
from dataclasses import dataclass
from itertools import islice

from prometheus_client.metrics_core import Metric as Family

from fleet.metrics.exposition import by_label, gauge, plain
from fleet.metrics.names import Served
from fleet.metrics.values import NAMES, STATES
from gateway.faces.bodies import Bodies
from gateway.routing.admission import Admission
from gateway.routing.breaker import Breakers
from gateway.routing.directory import Directory
from gateway.settings import GatewaySettings


@dataclass(frozen=True)
class GatewayState:
    """``connections`` are clients' open ones."""

    settings: GatewaySettings
    directory: Directory
    admission: Admission
    breakers: Breakers
    served: Served
    bodies: Bodies
    connections: Sized

    def collect(self) -> Iterator[Family]:
        now = time.monotonic()
        yield gauge("chatfleet_http_connections", plain(len(self.connections)))
        yield gauge("chatfleet_body_memory_bytes", plain(self.bodies.held))
        yield gauge("chatfleet_body_memory_limit_bytes", plain(self.settings.bodies_memory))
        yield from self._queue(now)
        yield from self._workers(now)
        yield from self._models(now)

    def _queue(self, now: float) -> Iterator[Family]:
        waiting = dict.fromkeys(self._names(), 0)
        for model, count in self.admission.waiting_by_model().items():
            name = self.served(model)
            waiting[name] = waiting.get(name, 0) + count
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
        ratio = self.directory.describe_load(self.admission.waiting, now)["ratio"]
        yield gauge("chatfleet_load_ratio", plain(ratio) if isinstance(ratio, float) else ())

    def _models(self, now: float) -> Iterator[Family]:
        workers, capacity = dict.fromkeys(self._names(), 0), dict.fromkeys(self._names(), 0)
        active: dict[str, int] = {}
        for worker in self.directory.ready(now):
            for name in set(map(self.served, worker.models)):
                own = worker.limited.get(name)
                workers[name] = workers.get(name, 0) + 1
                capacity[name] = capacity.get(name, 0) + (worker if own is None else own).capacity
                if own is not None:
                    active[name] = active.get(name, 0) + own.load
        yield gauge("chatfleet_model_workers", by_label(workers))
        yield gauge("chatfleet_model_capacity", by_label(capacity))
        yield gauge("chatfleet_model_active", by_label(active))
        broken = Counter(self.served(model) for model in self.breakers.open(now))
        yield gauge("chatfleet_breakers_open", by_label(dict.fromkeys(self._names(), 0) | broken))

    def _names(self) -> list[str]:
        return self.served.names
