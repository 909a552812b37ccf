"""Who is on a host that runs here."""

import pytest

from doctor import host
from doctor.findings import Level

METRIC = host.MEMBERS + '{{by="relay",kind="{}"}} {}\n'


@pytest.mark.parametrize(
    ("gateways", "workers", "missing"),
    [(1, 2, []), (0, 2, ["gateway"]), (1, 0, ["worker"]), (0, 0, ["gateway", "worker"])],
)
def test_a_host_without_gateways_or_workers_serves_no_one(
    gateways: int, workers: int, missing: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (
        "# TYPE chatfleet_host_members gauge\n" + METRIC.format("gateway", gateways) + METRIC.format("worker", workers)
    )
    monkeypatch.setenv("HOST_HEALTH_BIND", "127.0.0.1:8504")
    monkeypatch.setattr(host, "read_text", lambda _: text)
    told = [found.text for found in host.check() if found.level is Level.WARNING]
    assert told == [f"no {kind} is on the host, so no client can be served" for kind in missing]
