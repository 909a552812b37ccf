"""The host's metrics, read at each scrape."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client.metrics_core import Metric as Family

from fleet import logs
from fleet.metrics.exposition import by_label, counter, gauge, plain
from fleet.metrics.values import CAUSES, DROPS, KINDS, OTHER, REFUSALS, WAYS
from host.server import FleetHost


@dataclass(eq=False)
class HostMetrics:
    host: FleetHost
    logged: logs.Counts

    def collect(self) -> Iterator[Family]:
        members, counts = self.host.servicer.members.values(), self.host.servicer.counts
        kinds = Counter({(kind, way): 0 for kind in KINDS for way in WAYS})
        for member in members:
            if member.rights.role is not None or member.was_seen:
                kinds[member.rights.role or OTHER, "grpc" if member.relay is None else "relay"] += 1
        yield gauge("chatfleet_host_members", kinds.items())
        left = {(kind, cause): 0 for kind in KINDS for cause in CAUSES} | counts.left
        yield counter("chatfleet_host_members_left_total", left.items())
        dropped = self.logged["warning", "dropped a member that reads nothing"]
        yield counter("chatfleet_host_members_dropped_total", plain(dropped))
        ways = {"relay": counts.frames - counts.repacked, "grpc": counts.repacked + counts.messages}
        yield counter("chatfleet_host_events_total", by_label(ways))
        yield counter("chatfleet_host_events_dropped_total", by_label(dict.fromkeys(DROPS, 0) | counts.drops))
        yield counter("chatfleet_host_refusals_total", by_label(dict.fromkeys(REFUSALS, 0) | self.host.refusals()))
        yield gauge("chatfleet_host_backlog_bytes", plain(sum(member.waiting for member in members)))
        yield gauge("chatfleet_host_pending_connections", plain(self.host.pending))
