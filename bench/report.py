"""The figures of all runs, as JSON and as one Markdown table: a row per figure, a column per target."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from bench.figures import Spread

Series = dict[str, list[float]]
"""A workload's figures by name, each with a value per run."""


@dataclass
class Measured:
    """The figures of one target. ``problems`` says what failed and which replies were not exact."""

    version: str
    workloads: dict[str, Series] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    remarks: set[str] = field(default_factory=set)
    """What a reader must know about its figures."""
    workers: int = 0
    """Its number of workers, if it is our fleet; otherwise 0."""

    def add(self, workload: str, figures: dict[str, float]) -> None:
        series = self.workloads.setdefault(workload, {})
        for name, value in figures.items():
            series.setdefault(name, []).append(value)

    def spread(self, workload: str, figure: str) -> Spread | None:
        values = self.workloads.get(workload, {}).get(figure)
        return Spread.of(values) if values else None


@dataclass
class Report:
    """The figures of all targets; ``main`` are those with a column in the table."""

    machine: dict[str, str]
    runs: int
    main: list[str]
    targets: dict[str, Measured] = field(default_factory=dict)
    frames: str = "changing"
    """The form of the backend's events."""

    def as_json(self) -> str:
        targets = {
            name: {
                "version": target.version,
                "workers": target.workers,
                "problems": target.problems,
                "remarks": sorted(target.remarks),
                "workloads": target.workloads,
            }
            for name, target in self.targets.items()
        }
        about = {"machine": self.machine, "frames": self.frames, "runs": self.runs, "main": self.main}
        return json.dumps({**about, "targets": targets}, indent=1)

    @classmethod
    def from_json(cls, text: str) -> "Report":
        data: dict[str, Any] = json.loads(text)
        targets = {
            name: Measured(
                target["version"], target["workloads"], target["problems"], set(target["remarks"]), target["workers"]
            )
            for name, target in data["targets"].items()
        }
        return cls(data["machine"], data["runs"], data["main"], targets, data["frames"])

    def as_markdown(self) -> str:
        """The table, the machine, and what failed."""
        columns = [name for name in self.main if name in self.targets]
        lines = [
            f"| {self.runs} runs, {self.frames} frames: median (range) | " + " | ".join(columns) + " |",
            "|---|" + "---:|" * len(columns),
        ]
        lines += self._rows(columns)
        lines += [
            "",
            *(
                f"- {name}: {'; '.join([self.targets[name].version, *sorted(self.targets[name].remarks)])}"
                for name in columns
            ),
        ]
        lines += [f"- {name}: {value}" for name, value in self.machine.items()]
        lines += self._scaling()
        lines += self._ceiling()
        problems = [f"- {name}: {problem}" for name, target in self.targets.items() for problem in target.problems]
        if problems:
            lines += ["", "What failed:", "", *problems]
        return "\n".join(lines) + "\n"

    def _rows(self, columns: Sequence[str]) -> list[str]:
        lines = []
        for title, workload, rows in SECTIONS:
            present = [row for row in rows if any(row.cell(self.targets[name], workload) for name in columns)]
            if present:
                lines.append(f"| **{title}** |" + " |" * len(columns))
            for row in present:
                cells = [row.cell(self.targets[name], workload) for name in columns]
                lines.append(f"| {row.title} | " + " | ".join(cells) + " |")
        return lines

    def by_workers(self, workload: str, figure: str) -> list[tuple[int, Spread]]:
        """A figure of our fleet for each number of workers."""
        found = [
            (target.workers, spread)
            for target in self.targets.values()
            if target.workers and (spread := target.spread(workload, figure))
        ]
        return sorted(found)

    def ratio(self, workload: str, figure: str, above: str, below: str) -> Spread | None:
        """One target's figure as a multiple of another's, run by run; None where a run lacks either."""
        series = [
            self.targets[name].workloads.get(workload, {}).get(figure, []) if name in self.targets else []
            for name in (above, below)
        ]
        if not series[0] or len(series[0]) != len(series[1]) or not all(series[1]):
            return None
        return Spread.of([one / other for one, other in zip(*series, strict=True)])

    def _ceiling(self) -> list[str]:
        """A table of what one host carries."""
        rows = [
            f"| {name}{load} | " + " | ".join(row.cell(target, workload) for row in CEILING) + " |"
            for name, target in self.targets.items()
            if name not in self.main and not target.workers
            for workload, load in LOADS.items()
            if workload in target.workloads
        ]
        head = "| what one host carries | " + " | ".join(row.title for row in CEILING) + " |"
        return ["", head, "|---|" + "---:|" * len(CEILING), *rows] if rows else []

    def _scaling(self) -> list[str]:
        """Tables of cost by number of workers, which should not grow."""
        lines = []
        for workload, title in GROWTH.items():
            by_workers = self.by_workers(workload, "cpu")
            if len(by_workers) < 2:
                continue
            base = by_workers[0][1].median
            lines += [
                "",
                f"| {title} | " + " | ".join(str(workers) for workers, _ in by_workers) + " |",
                "|---|" + "---:|" * len(by_workers),
                "| CPU per token (µs) | " + " | ".join(number(spread) for _, spread in by_workers) + " |",
                f"| of that with {by_workers[0][0]} | "
                + " | ".join(f"{spread.median / base:.2f}" for _, spread in by_workers)
                + " |",
            ]
        for workers, spread in self.by_workers("flat16", "tokens_s"):
            lines += ["", f"16 streams flat out, {workers} worker{'s'[: workers - 1]}: {number(spread)} tokens/s."]
        return lines


OURS = "chatfleet"
TRACED = "chatfleet-traced"
"""Ours, with every request traced."""
BEFORE = "before"
"""Ours at an earlier commit."""

LOADS = {"ceiling": "", "paced200": ", 200 streams at 20 ms", "flat64": ", 64 streams flat out"}
"""Workloads that load a host, and how the table names them."""

GROWTH = {
    "paced200": "200 streams paced 20 ms, by workers",
    "each25": "25 streams paced 20 ms for each worker, by workers",
}
"""Workloads for several numbers of workers: the same load in all, and the same load for each."""


class Row(NamedTuple):
    """A figure, its title and its format; without a format, its shares by process."""

    title: str
    figure: str
    form: Callable[[Spread], str] | None = None

    def cell(self, target: Measured, workload: str) -> str:
        """Empty where there is no figure."""
        if self.form is None:
            return _parts(target, workload, self.figure)
        spread = target.spread(workload, self.figure)
        return self.form(spread) if spread else ""


def number(spread: Spread) -> str:
    """``12.3 (11.0 … 14.0)``: median and range."""
    if spread.low == spread.high:
        return short(spread.median)
    return f"{short(spread.median)} ({short(spread.low)} … {short(spread.high)})"


def share(spread: Spread) -> str:
    return f"{spread.median * 100:.0f} % ({spread.low * 100:.0f} … {spread.high * 100:.0f})"


def short(value: float) -> str:
    """Three significant digits, or all that stand before the point."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _parts(target: Measured, workload: str, figure: str) -> str:
    """A figure's shares by process: ``host 20 · worker 40``. Empty where there is one process."""
    parts = [name for name in target.workloads.get(workload, {}) if name.startswith(f"{figure}.")]
    if len(parts) < 2:
        return ""
    spreads = [(name.partition(".")[2], target.spread(workload, name)) for name in parts]
    return " · ".join(f"{name} {short(spread.median)}" for name, spread in spreads if spread)


NOT_EXACT = Row("replies not exact", "faulty", number)


def _flowing(window: str = "CPU per token (µs)") -> list[Row]:
    return [
        Row(window, "cpu", number),
        Row("of it", "cpu"),
        Row("first token p50 (ms)", "first_p50", number),
        Row("first token p99 (ms)", "first_p99", number),
        Row("token's delay p50 (ms)", "delay_p50", number),
        Row("token's delay p99 (ms)", "delay_p99", number),
        Row("inter-token latency, added p50 (ms)", "gap_p50", number),
        Row("inter-token latency, added p99 (ms)", "gap_p99", number),
        Row("tokens/s", "tokens_s", number),
        Row("streams cut for being late", "cut", number),
        NOT_EXACT,
    ]


CEILING = [
    Row("batches/s", "batches_s", number),
    Row("cores that the host used", "host_cores", number),
    Row("batches/s for one core of it", "batches_core", number),
    Row("tokens/s", "tokens_s", number),
    Row("CPU per token (µs)", "cpu", number),
    Row("of it", "cpu"),
]

SECTIONS: list[tuple[str, str, list[Row]]] = [
    (
        "one client, short requests one after the other",
        "idle",
        [
            Row("first token, added p50 (ms)", "added_first_p50", number),
            Row("first token, added p95 (ms)", "added_first_p95", number),
            Row("first token, added p99 (ms)", "added_first_p99", number),
            Row("CPU per request (ms)", "request_cpu", number),
            Row("of it", "request_cpu"),
            NOT_EXACT,
        ],
    ),
    (
        "16 clients, 100 tokens at 5 ms again and again",
        "chats16",
        [Row("CPU per token (µs), requests included", "cpu", number), Row("of it", "cpu"), NOT_EXACT],
    ),
    ("16 streams paced 50 ms", "light16", _flowing()),
    ("16 streams paced 5 ms", "paced16", _flowing()),
    ("… of reasoning", "paced16-reasoning", _flowing()),
    ("… of a tool call's arguments", "paced16-tools", _flowing()),
    ("200 streams paced 20 ms", "paced200", _flowing()),
    ("… of reasoning", "paced200-reasoning", _flowing()),
    ("… of a tool call's arguments", "paced200-tools", _flowing()),
    ("1,000 streams paced 50 ms", "paced1000", _flowing()),
    ("16 streams paced 5 ms, 20 kB of history", "history", _flowing()),
    (
        "16 streams flat out",
        "flat16",
        [
            Row("tokens/s", "tokens_s", number),
            Row("CPU per token (µs)", "cpu", number),
            Row("of it", "cpu"),
            NOT_EXACT,
        ],
    ),
    (
        "memory",
        "memory",
        [
            Row("at rest, PSS (MiB)", "rest_pss", number),
            Row("at rest, RSS (MiB)", "rest_rss", number),
            Row("per open stream, 1,000 idle ones (kB)", "stream", number),
        ],
    ),
    (
        "clients that read nothing of a reply",
        "stalled",
        [
            Row("memory of each (kB)", "stalled", number),
            Row("tokens of 50,000 that the backend sent for each", "stalled_sent", number),
        ],
    ),
    (
        "from a client's leaving to the backend's connection closed",
        "leaving",
        [
            Row("in the middle of a reply, p50 (ms)", "midway_p50", number),
            Row("longest (ms)", "midway_max", number),
            Row("closed within 2 s", "midway_closed", share),
            Row("before the first token, p50 (ms)", "early_p50", number),
            Row("longest (ms)", "early_max", number),
            Row("closed within 2 s", "early_closed", share),
        ],
    ),
    (
        "the bench's own cost, in none of the above",
        "paced200",
        [
            Row("backend, CPU per token at 200 streams (µs)", "backend_cpu", number),
            Row("load generator, CPU per token at 200 streams (µs)", "load_cpu", number),
            Row("cores that other processes of the machine used meanwhile", "elsewhere", number),
        ],
    ),
]
