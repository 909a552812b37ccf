"""``python -m bench``: measure targets in turn, print one table and save it with its plots in ``bench/results``."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from bench import machine
from bench.report import OURS, Measured, Report
from bench.stage import Figures, NotExact, Stage
from bench.targets.direct import Direct
from bench.targets.fleet import Fleet
from bench.targets.naive import Naive
from bench.targets.target import Target
from bench.workloads import BUSY, FLAT, STANDARD, Workload

RESULTS = Path(__file__).parent / "results"
SCALES: dict[int, Sequence[Workload]] = {1: (BUSY, FLAT), 4: (BUSY,), 8: (BUSY,)}
"""Numbers of workers that are measured besides the usual two, and what with."""


class Part(NamedTuple):
    """What is measured of one target in each run."""

    name: str
    target: Target
    workloads: Sequence[Workload]
    column: bool = True
    """Whether it has a column of the table."""


def main() -> int:
    """The exit code: 0, or 1 if a target could not be measured."""
    arguments = _arguments()
    with Stage() as stage:
        parts = plan(stage.port, _list(arguments.targets), _list(arguments.peers), _list(arguments.workloads))
        report = Report(machine.facts(), arguments.runs, [part.name for part in parts if part.column])
        for part in parts:
            part.target.prepare()
            report.targets[part.name] = Measured(part.target.version())
        for run in range(arguments.runs):
            direct: dict[str, Figures] = {}
            for part in parts:
                say(f"run {run + 1} of {arguments.runs}: {part.name}")
                measure(stage, part, report.targets[part.name], direct)
    table = report.as_markdown()
    print(table)
    save(report, table, Path(arguments.results))
    return int(any(target.problems for target in report.targets.values()))


def plan(port: int, targets: Sequence[str], peers: Sequence[str], names: Sequence[str]) -> list[Part]:
    """What to measure: ``direct`` first, because the others' first tokens are compared with its own."""
    workloads = [workload for workload in STANDARD if not names or workload.name in names]
    parts = [Part("direct", Direct(port), [work for work in workloads if work.name not in ("memory", "leaving")])]
    if OURS in targets:
        parts.append(Part(OURS, Fleet(port), workloads))
        if not names or "workers" in names:
            parts += [
                Part(f"{OURS}, {count} workers", Fleet(port, workers=count), work, column=False)
                for count, work in SCALES.items()
            ]
    if Naive.name in targets:
        parts.append(Part(Naive.name, Naive(port), workloads))
    return parts


def measure(stage: Stage, part: Part, measured: Measured, direct: dict[str, Figures]) -> None:
    """One run of one part. A target that still has something to do after a workload is started anew."""
    waiting = list(part.workloads)
    while waiting:
        with part.target as target:
            stage.warm_up(target)
            while waiting:
                workload = waiting.pop(0)
                try:
                    figures = stage.measure(target, workload)
                except NotExact as error:
                    measured.problems.append(f"{workload.name}: {error}")
                    say(f"{workload.name}: {error}")
                    break
                if part.name == "direct":
                    direct[workload.name] = figures
                measured.add(workload.name, figures | added(figures, direct.get(workload.name, {})))
                if not stage.settles():
                    break


def added(figures: Figures, direct: Figures) -> Figures:
    """How much later the first token came than the median first token without a gateway, in the same run."""
    base = direct.get("first_p50")
    if base is None:
        return {}
    return {f"added_{name}": value - base for name, value in figures.items() if name.startswith("first_p")}


def save(report: Report, table: str, folder: Path) -> None:
    """Write the report where the last one was."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "latest.json").write_text(report.as_json() + "\n")
    (folder / "latest.md").write_text(table)


def say(words: str) -> None:
    """Tell how far it is."""
    print(words, file=sys.stderr, flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="how often everything is measured")
    parser.add_argument("--targets", default=f"{OURS},{Naive.name}", help="of ours and the baselines: chatfleet,naive")
    parser.add_argument("--peers", default="", help="litellm,production-stack,smg")
    parser.add_argument("--workloads", default="", help="all, or some of " + ",".join(work.name for work in STANDARD))
    parser.add_argument("--results", default=str(RESULTS), help="folder for the table, the figures and the plots")
    return parser.parse_args()


def _list(value: str) -> list[str]:
    return [name for name in value.replace(",", " ").split() if name]


if __name__ == "__main__":
    sys.exit(main())
