"""The metrics that every process has: what it is, how late its event loop is, what it logged, when certificates end."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from cryptography import x509
from prometheus_client import GCCollector, ProcessCollector
from prometheus_client.metrics_core import Metric as Family

from fleet.bus.runtime import FleetRuntime
from fleet.metrics.events import CHANGES, EVENTS
from fleet.metrics.exposition import Exposition, Values, by_label, counter, gauge, plain
from fleet.metrics.names import First
from fleet.metrics.values import Process
from fleet.process import files, memory
from fleet.process.version import VERSION
from fleet.security.identity import Identity

TICK = 0.1
"""Seconds between two timers that measure the event loop's lag."""


class ProcessMetrics:
    """Adds its metrics to ``exposition``. ``ready`` says whether ``/readyz`` answers 200."""

    def __init__(
        self,
        exposition: Exposition,
        process: Process,
        member: str,
        ready: Callable[[], bool],
        logged: Mapping[tuple[str, str], int],
        identity: Identity | None,
    ) -> None:
        self._info = (process, member, VERSION)
        self._ready = ready
        self._logged = logged
        self._events = First()
        self._expected = [(level, self._events(event)) for level, events in EVENTS[process].items() for event in events]
        self._changes = CHANGES[process]
        self._certificates = Certificates(identity) if identity is not None else None
        self._lag = exposition.histogram("chatfleet_event_loop_lag_seconds")
        exposition.add(self)
        ProcessCollector(registry=exposition.registry)
        GCCollector(registry=exposition.registry)

    def watch_loop(self) -> None:
        """Measure the running event loop's lag from now on."""
        loop = asyncio.get_running_loop()

        def tick(due: float) -> None:
            now = loop.time()
            self._lag.observe(max(0.0, now - due))
            loop.call_at(now + TICK, tick, now + TICK)

        tick(loop.time())

    def collect(self) -> Iterator[Family]:
        yield gauge("chatfleet_build_info", [(self._info, 1)])
        yield gauge("chatfleet_ready", plain(self._ready()))
        yield counter("chatfleet_log_events_total", self._log_events())
        ends = self._certificates.ends() if self._certificates is not None else {}
        yield gauge("chatfleet_certificate_expiry_timestamp_seconds", by_label(ends))
        yield gauge("chatfleet_file_unusable", by_label(self._unusable()))
        limit = memory.limit()
        yield gauge("chatfleet_memory_limit_bytes", plain(limit) if limit is not None else ())

    def _unusable(self) -> dict[str, float]:
        """By file: whether the last that was logged of it is a change that cannot be used."""
        order = {event: place for place, (_, event) in enumerate(self._logged)}
        return {file: order.get(bad, -1) > order.get(good, -1) for file, (bad, good) in self._changes.items()}

    def _log_events(self) -> Values:
        counts: dict[tuple[str, ...], float] = dict.fromkeys(self._expected, 0)
        for (level, event), count in self._logged.items():
            labels = level, self._events(event)
            counts[labels] = counts.get(labels, 0) + count
        return counts.items()


class LinkMetrics:
    """Adds the metrics of a member's link to the host."""

    def __init__(self, exposition: Exposition, runtime: FleetRuntime, draining: Callable[[], bool]) -> None:
        self._runtime = runtime
        self._draining = draining
        exposition.add(self)

    def collect(self) -> Iterator[Family]:
        yield gauge("chatfleet_draining", plain(self._draining()))
        yield gauge("chatfleet_linked", plain(self._runtime.linked))
        yield gauge("chatfleet_relay_open", plain(self._runtime.relayed))
        yield counter("chatfleet_link_losses_total", plain(self._runtime.losses))


class Certificates:
    """When the certificates of an identity end. The files are read again when they change."""

    def __init__(self, identity: Identity) -> None:
        self._files = {"own": identity.cert, "authority": identity.ca}
        self._known: dict[str, tuple[files.Stamp, float]] = {}

    def ends(self) -> dict[str, float]:
        """The end of each in seconds since 1970. A file that cannot be read now has that of before, if there is one."""
        for name, path in self._files.items():
            try:
                stamp = files.stamp(path)
                if name not in self._known or self._known[name][0] != stamp:
                    self._known[name] = stamp, _end(path)
            except (OSError, ValueError):  # replaced just now, perhaps; who dials or listens reports it
                continue
        return {name: end for name, (_, end) in self._known.items()}


def _end(path: Path) -> float:
    """The first end of a file's certificates. Raises ``OSError`` or ``ValueError``."""
    files.must_be_regular(path)
    certificates = x509.load_pem_x509_certificates(path.read_bytes())
    return min(certificate.not_valid_after_utc.timestamp() for certificate in certificates)
