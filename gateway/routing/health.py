"""How the fleet's models and agents do, by what the workers say of them. ``now`` is in seconds of a monotonic clock."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from gateway.routing.directory import Failing, Worker


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

    def and_with(self, failing: Failing) -> "Health":
        since = failing.since if self.since is None else min(self.since, failing.since)
        return Health(self.workers, self.failing + 1, failing.code, since)

    def describe(self, now: float) -> dict[str, object]:
        found: dict[str, object] = {"state": self.state, "workers": self.workers}
        if self.since is not None:
            seconds = round(max(0.0, now - self.since), 1)
            found |= {"failing": self.failing, "code": self.code, "failing_seconds": seconds}
        return found


def health(workers: Iterable[Worker], now: float) -> dict[str, Health]:
    """By public name, of all that ``workers`` serve; those that are not ready only say what there should be."""
    counts: Counter[str] = Counter()
    failures: list[tuple[str, Failing]] = []
    for worker in workers:
        names = dict.fromkeys(worker.models, 0)
        if not worker.is_ready(now):
            counts.update(names)
            continue
        counts.update(names.keys())  # thousands of names, of workers that make them up, must not take long
        failing = {name: worker.fails_with(name) for name, _ in worker.failing}
        failures += [(name, told) for name, told in failing.items() if told is not None]
    found = {name: Health(count) for name, count in counts.items()}
    for name, told in failures:
        found[name] = found[name].and_with(told)
    return found
