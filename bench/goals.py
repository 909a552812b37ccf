"""The goals of the fleet, and whether a report meets them: medians, and ratios within one benchmark."""

import operator
from collections.abc import Callable, Iterable
from typing import NamedTuple

from bench.report import OURS, Measured, Report, short

Value = float | None


class Goal(NamedTuple):
    """A figure and its bound. ``value`` is None where it was not measured."""

    title: str
    value: Callable[["Figures"], Value]
    most: float | None = None
    least: float | None = None

    def line(self, figures: "Figures") -> str | None:
        """A row of the table; None if the figure was not measured."""
        value = self.value(figures)
        if value is None:
            return None
        met, bound = (
            (value <= self.most, f"at most {self.most:g}")
            if self.most is not None
            else (value >= (self.least or 0), f"at least {self.least:g}")
        )
        return f"| {self.title} | {short(value)} | {bound} | {'met' if met else '**missed**'} |"


class Figures:
    """Medians of a report, by target."""

    def __init__(self, report: Report) -> None:
        self._report = report

    def __call__(self, workload: str, figure: str, target: str = OURS) -> Value:
        return median(self._report.targets.get(target), workload, figure)

    def part(self, workload: str, other: str) -> Value:
        """Our CPU per token as a part of another target's: the median of the runs' ratios."""
        spread = self._report.ratio(workload, "cpu", OURS, other)
        return spread.median if spread else None

    def growth(self, workload: str) -> Value:
        """CPU per token with the most workers, as a part of that with one."""
        found = dict(self._report.by_workers(workload, "cpu"))
        return ratio(found[8].median, found[1].median) if {1, 8} <= set(found) else None

    def one_worker(self) -> Value:
        """Tokens/s flat out with one worker."""
        found = dict(self._report.by_workers("flat16", "tokens_s"))
        return found[1].median if 1 in found else None

    def naive(self) -> Value:
        """The most tokens/s that the naive target reached under any load; flat out it may deliver none at all."""
        naive = self._report.targets.get("naive")
        rates = [median(naive, workload, "tokens_s") for workload in (naive.workloads if naive else ())]
        return max((rate for rate in rates if rate), default=None)

    def faults(self) -> Value:
        """How many of 1,000 replies were not exact or not finished in time."""
        faulty, cut = self("paced1000", "faulty"), self("paced1000", "cut")
        return None if faulty is None or cut is None else faulty + cut


def median(target: Measured | None, workload: str, figure: str) -> Value:
    spread = target.spread(workload, figure) if target else None
    return spread.median if spread else None


def ratio(above: Value, below: Value) -> Value:
    """None where either is missing or the divisor is 0."""
    return operator.truediv(above, below) if above is not None and below else None


TO_PROXY = 1.15
"""The most that a token may cost, as a multiple of its cost in the plain proxy."""
ARGUMENTS = 80
"""The most that a token of a tool call's arguments may cost, in µs."""

GOALS: tuple[Goal, ...] = (
    Goal("16 streams at 5 ms: CPU per token (µs)", lambda of: of("paced16", "cpu"), most=90),
    Goal("… as a part of the proxy's", lambda of: of.part("paced16", "proxy"), most=TO_PROXY),
    Goal("… of reasoning, as a part of the proxy's", lambda of: of.part("paced16-reasoning", "proxy"), most=TO_PROXY),
    Goal("… of a tool call's arguments (µs)", lambda of: of("paced16-tools", "cpu"), most=ARGUMENTS),
    Goal("… as a part of LiteLLM's", lambda of: of.part("paced16", "litellm"), most=1 / 8),
    Goal("… as a part of production-stack's", lambda of: of.part("paced16", "production-stack"), most=1),
    Goal("… inter-token latency, added p99 (ms)", lambda of: of("paced16", "gap_p99"), most=15),
    Goal("200 streams at 20 ms: CPU per token (µs)", lambda of: of("paced200", "cpu"), most=60),
    Goal("… as a part of the proxy's", lambda of: of.part("paced200", "proxy"), most=TO_PROXY),
    Goal("… of reasoning, as a part of the proxy's", lambda of: of.part("paced200-reasoning", "proxy"), most=TO_PROXY),
    Goal("… of a tool call's arguments (µs)", lambda of: of("paced200-tools", "cpu"), most=ARGUMENTS),
    Goal("1,000 streams at 50 ms: not exact or late", lambda of: of.faults(), most=0),
    Goal("… first token p99 (ms)", lambda of: of("paced1000", "first_p99"), most=1000),
    Goal("Idle: first token, added p50 (ms)", lambda of: of("idle", "added_first_p50"), most=3),
    Goal("… added p99 (ms)", lambda of: of("idle", "added_first_p99"), most=10),
    Goal("Flat out, 16 streams, 1 worker: tokens/s", lambda of: of.one_worker(), least=15_000),
    Goal(
        "… as a multiple of the naive target's best",
        lambda of: ratio(of.one_worker(), of.naive()),
        least=5,
    ),
    Goal("CPU per token, 8 workers against 1, 200 streams in all", lambda of: of.growth("paced200"), most=1.15),
    Goal("… with 25 streams for each worker", lambda of: of.growth("each25"), most=1.15),
    Goal(
        "CPU per token, 1,000 streams against 16",
        lambda of: ratio(of("paced1000", "cpu"), of("paced16", "cpu")),
        most=1.15,
    ),
    Goal("An open idle stream, of 1,000 (kB)", lambda of: of("memory", "stream"), most=60),
)


def table(report: Report, goals: Iterable[Goal] = GOALS) -> list[str]:
    """Lines of Markdown; none if nothing that has a goal was measured."""
    rows = [line for goal in goals if (line := goal.line(Figures(report)))]
    return ["", "| goal | median | | |", "|---|---:|---|---|", *rows] if rows else []
