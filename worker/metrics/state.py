"""What is read of the worker's parts at each scrape: its places and its lanes."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from prometheus_client.metrics_core import Metric as Family

from fleet.lane import Outbox
from fleet.metrics.exposition import by_label, counter, gauge, plain
from fleet.metrics.values import NAMES
from worker.serving.registry import Registry


@dataclass(eq=False)
class WorkerState:
    """``registry`` returns None until there is one."""

    registry: Callable[[], Registry | None]
    outbox: Outbox

    def collect(self) -> Iterator[Family]:
        if (registry := self.registry()) is not None:
            yield from _places(registry)
        counts = self.outbox.counts()
        yield gauge("chatfleet_lanes", plain(counts.lanes))
        yield gauge("chatfleet_lane_unacknowledged_batches", plain(counts.unacknowledged))
        yield counter("chatfleet_lane_batches_total", plain(counts.sent))
        yield counter("chatfleet_lane_resent_batches_total", plain(counts.resent))
        yield gauge("chatfleet_lane_held_bytes", plain(counts.held))
        yield gauge("chatfleet_lane_blocked_replies", plain(counts.blocked))


def _places(registry: Registry) -> Iterator[Family]:
    yield gauge("chatfleet_run_capacity", plain(registry.capacity))
    yield counter("chatfleet_runs_refused_total", by_label(registry.refused))
    limits = {name: offer.concurrency for name, offer in registry.offers.items() if offer.concurrency}
    yield gauge("chatfleet_run_concurrency", by_label(dict(list(limits.items())[:NAMES])))
