"""How the fleet's models and agents do, by what the workers say of them. ``now`` is in seconds of a monotonic clock."""

from collections.abc import Iterable
from dataclasses import dataclass

from gateway.routing.directory import Worker


@dataclass(frozen=True, slots=True)
class Health:
    """Of one public name: on how many ready workers it is served, and how many of these fail with it."""

    workers: int = 0
    failing: int = 0
    code: str = ""
    """Of the last error, where a worker fails with it."""
    since: float | None = None
    """When the first of those workers began to."""

    @property
    def state(self) -> str:
        if not self.workers:
            return "absent"
        if not self.failing:
            return "healthy"
        return "failing" if self.failing == self.workers else "degraded"

    @property
    def is_served(self) -> bool:
        return self.failing < self.workers

    def and_on(self, worker: Worker, name: str) -> "Health":
        failing = worker.fails_with(name)
        if failing is None:
            return Health(self.workers + 1, self.failing, self.code, self.since)
        since = failing.since if self.since is None else min(self.since, failing.since)
        return Health(self.workers + 1, self.failing + 1, failing.code, since)

    def describe(self, now: float) -> dict[str, object]:
        found: dict[str, object] = {"state": self.state, "workers": self.workers}
        if self.since is not None:
            seconds = round(max(0.0, now - self.since), 1)
            found |= {"failing": self.failing, "code": self.code, "failing_seconds": seconds}
        return found


def health(workers: Iterable[Worker], now: float) -> dict[str, Health]:
    """By public name, of all that ``workers`` serve; those that are not ready only say what there should be."""
    found: dict[str, Health] = {}
    for worker in workers:
        is_ready = worker.is_ready(now)
        for name in worker.models:
            known = found.get(name, Health())
            found[name] = known.and_on(worker, name) if is_ready else known
    return found
