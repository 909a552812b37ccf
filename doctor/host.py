"""Who is on the host, as it counts them in its metrics."""

from collections import Counter
from collections.abc import Iterator

from prometheus_client.parser import text_string_to_metric_families

from doctor.findings import Finding, note, ok, warning
from doctor.ports import read_text
from doctor.settings import read
from host.settings import HostSettings

MEMBERS = "chatfleet_host_members"


def check() -> Iterator[Finding]:
    """The members of a host that runs here. Call it in its surroundings."""
    settings = read(HostSettings)
    if settings is None:
        return
    if settings.health_bind is None:
        yield note(
            "the host does not say who is on it", "set HOST_HEALTH_BIND, such as 127.0.0.1:8504, to see its metrics"
        )
        return
    try:
        text = read_text(f"http://{settings.health_bind.reachable}/metrics")
    except OSError as error:
        yield warning(f"the host's metrics cannot be read: {error}", "see HOST_HEALTH_BIND, and the ports above")
        return
    counts = members(text)
    kinds = ", ".join(f"{number} {kind} by {way}" for (kind, way), number in sorted(counts.items()) if number)
    yield ok(f"on the host: {kinds or 'nobody'}")
    for kind in ("gateway", "worker"):
        if not sum(number for (one, _), number in counts.items() if one == kind):
            advice = f"start one: python -m {kind}; if one runs, its log says why it cannot join"
            yield warning(f"no {kind} is on the host, so no client can be served", advice)
    if slow := sum(number for (kind, way), number in counts.items() if way == "grpc" and kind != "other"):
        advice = "every batch costs five times the CPU: let the relay's port pass, see `no relay` in their logs"
        yield warning(f"{slow} members have no relay", advice)


def members(text: str) -> Counter[tuple[str, str]]:
    """How many there are of each kind, and by which way they are heard."""
    counts: Counter[tuple[str, str]] = Counter()
    for family in text_string_to_metric_families(text):
        if family.name == MEMBERS:
            for sample in family.samples:
                counts[sample.labels["kind"], sample.labels["by"]] += int(sample.value)
    return counts
