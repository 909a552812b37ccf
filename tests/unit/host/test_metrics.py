"""What the host's metrics say of what it has counted."""

from types import SimpleNamespace
from typing import Any, cast

from prometheus_client import CollectorRegistry

from fleet import logs
from host.metrics import HostMetrics
from host.roles import OTHER
from host.server import FleetHost
from host.servicer import Counts


def host(*members: Any) -> Any:
    servicer = SimpleNamespace(members=dict(enumerate(members)), counts=Counts())
    return SimpleNamespace(servicer=servicer, refusals=dict, pending=3)


def member(kind: str, *, by_relay: bool, waiting: int = 0) -> Any:
    rights = SimpleNamespace(role=kind) if kind != "other" else OTHER
    return SimpleNamespace(rights=rights, was_seen=True, relay=by_relay or None, waiting=waiting)


def value(made: Any, name: str, logged: logs.Counts | None = None, **labels: str) -> float | None:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(HostMetrics(cast("FleetHost", made), logged or logs.Counts()))
    return registry.get_sample_value(f"chatfleet_host_{name}", labels)


def test_members_are_counted_by_kind_and_by_what_carries_their_events() -> None:
    made = host(member("worker", by_relay=True), member("worker", by_relay=False), member("other", by_relay=False))
    assert value(made, "members", kind="worker", by="relay") == 1
    assert value(made, "members", kind="worker", by="grpc") == 1
    assert value(made, "members", kind="other", by="grpc") == 1
    assert value(made, "members", kind="gateway", by="relay") == 0, "so that an alert sees that there is none"


def test_events_are_counted_by_how_they_came() -> None:
    made = host()
    made.servicer.counts.frames, made.servicer.counts.repacked, made.servicer.counts.messages = 10, 2, 1
    assert value(made, "events_total", by="relay") == 8
    assert value(made, "events_total", by="grpc") == 3


def test_members_that_read_nothing_and_what_waits_for_them_are_seen() -> None:
    made = host(member("worker", by_relay=True, waiting=5), member("gateway", by_relay=True, waiting=7))
    assert value(made, "backlog_bytes") == 12
    assert value(made, "pending_connections") == 3
    logged = logs.Counts({("warning", "dropped a member that reads nothing"): 2})
    assert value(made, "members_dropped_total", logged) == 2


def test_what_never_happened_is_nothing() -> None:
    assert value(host(), "refusals_total", reason="token") == 0
    assert value(host(), "events_dropped_total", reason="no_room") == 0
    assert value(host(), "members_left_total", kind="worker", cause="silent") == 0
