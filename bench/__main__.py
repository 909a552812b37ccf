"""``python -m bench``: measures targets, prints one table and saves it with plots in ``bench/results``."""

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from bench import comparison, goals, machine
from bench.order import Frames
from bench.plots import plots
from bench.report import BEFORE, OURS, Measured, Report
from bench.session import Part, measure, say
from bench.stage import Stage
from bench.targets.bus import Bus
from bench.targets.direct import Direct
from bench.targets.fleet import Fleet
from bench.targets.litellm import LiteLLM
from bench.targets.naive import Naive
from bench.targets.peer import Peer, PeerMissing
from bench.targets.production_stack import ProductionStack
from bench.targets.proxy import Proxy
from bench.targets.smg import Smg
from bench.targets.traced import Traced
from bench.window import Figures
from bench.workloads import BUSY, FLAT, MANY, STANDARD, Ceiling, Workload, each

RESULTS = Path(__file__).parent / "results"
PEERS: dict[str, type[Peer]] = {peer.name: peer for peer in (LiteLLM, ProductionStack, Smg)}
BATCHES = (1, 16, 128)
"""Chunks in a batch."""
SCALES: dict[int, Sequence[Workload]] = {1: (BUSY, each(1), FLAT), 4: (BUSY, each(4)), 8: (BUSY, each(8))}
"""Numbers of workers that are measured besides the usual two, and their workloads."""
BASE = ("idle", "paced16", "paced200")
"""Workloads that are also measured without a gateway. All of them would take too long."""
OBVIOUS = ("idle", "light16", "paced16", "flat16", "leaving")
"""Workloads of the naive target. It cannot keep up with the others, which take long and show nothing more."""


def main() -> int:
    """The exit code: 1 if a target could not be measured or its replies were not exact, otherwise 0."""
    arguments = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # an exception, so that every ``with`` ends its processes
    with Stage(arguments.frames) as stage:
        targets, peers = _list(arguments.targets), _list(arguments.peers)
        groups = plan(stage.port, targets, peers, _list(arguments.workloads), arguments.before)
        report = collect(stage, groups, arguments.runs)
    table = report.as_markdown() + "\n".join([*comparison.table(report), *goals.table(report), ""])
    print(table)
    save(report, table, Path(arguments.results))
    # The naive target may lose tokens; that is part of what it shows.
    return int(any(target.problems for name, target in report.targets.items() if name != Naive.name))


def collect(stage: Stage, groups: Sequence[Sequence[Part]], runs: int) -> Report:
    """Measure every group in every run; every second run in reverse order."""
    parts = [part for group in groups for part in group]
    report = Report(machine.facts(), runs, [part.name for part in parts if part.column], frames=stage.frames)
    missing = prepare(parts, report)
    for run in range(runs):
        direct: dict[str, Figures] = {}
        for group in groups:
            present = [part for part in group if part.name not in missing]
            say(f"run {run + 1} of {runs}: {', '.join(part.name for part in present)}")
            measure(stage, present, report, direct, is_turned=run % 2 == 1)
    return report


def prepare(parts: Sequence[Part], report: Report) -> set[str]:
    """Install what will be measured. Returns the names of the parts that cannot be."""
    missing = set()
    for part in parts:
        try:
            part.target.prepare()
            workers = part.target.workers if part.name.startswith(OURS) else 0
            report.targets[part.name] = Measured(part.target.version(), workers=workers)
        except PeerMissing as error:
            say(f"{part.name}: {error}")
            missing.add(part.name)
            report.targets[part.name] = Measured("not measured", problems=[str(error)])
    return missing


def plan(
    port: int, targets: Sequence[str], peers: Sequence[str], names: Sequence[str], before: Path | None
) -> list[list[Part]]:
    """Groups of parts. The first group is measured side by side, each of the others alone."""
    workloads = [workload for workload in STANDARD if not names or workload.name in names]
    first = [Part(Direct.name, Direct(port), [work for work in workloads if work.name in BASE])]
    alone: list[Part] = []
    if OURS in targets:
        first.append(Part(OURS, Fleet(port), workloads))
        if not names or "workers" in names:
            alone += [
                Part(f"{OURS}, {count} workers", Fleet(port, workers=count), work, column=False)
                for count, work in SCALES.items()
            ]
        if "ceiling" in names:
            alone += ceiling(port)
    if Traced.name in targets:
        first.append(Part(Traced.name, Traced(port), workloads))
    if before is not None:
        first.append(Part(BEFORE, Fleet(port, checkout=before), workloads))
    if Proxy.name in targets:
        first.append(Part(Proxy.name, Proxy(port), workloads))
    if Naive.name in targets:
        alone.append(Part(Naive.name, Naive(port), [work for work in workloads if work.name in OBVIOUS]))
    alone += [Part(name, PEERS[name](port), workloads) for name in peers]
    return [first, *([part] for part in alone)]


def ceiling(port: int) -> list[Part]:
    """The parts that show how much one host carries: alone, and with several workers and gateways."""
    hosts = [Part(f"host, batches of {chunks}", Bus(port, chunks), [Ceiling()], column=False) for chunks in BATCHES]
    fleets = [
        Part(f"{workers} workers, {gateways} gateways", Fleet(port, workers, gateways), [BUSY, MANY], column=False)
        for workers, gateways in ((1, 1), (2, 1), (2, 2), (4, 4))
    ]
    return hosts + fleets


def save(report: Report, table: str, folder: Path) -> None:
    """Write the report over the last one."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "latest.json").write_text(report.as_json() + "\n")
    (folder / "latest.md").write_text(table)
    for name, plot in plots(report).items():
        (folder / name).write_text(plot.as_svg())


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="how many times everything is measured")
    ours = f"{OURS},{Naive.name},{Proxy.name}"
    parser.add_argument("--targets", default=ours, help=f"of ours and the baselines: {ours},{Traced.name}")
    parser.add_argument(
        "--before",
        type=Path,
        metavar="PATH",
        help="a checkout of an earlier commit, to measure beside this one",
    )
    parser.add_argument("--peers", default="", help="litellm,production-stack,smg")
    parser.add_argument(
        "--workloads",
        default="",
        help="some of (default: all but ceiling) " + ",".join(work.name for work in STANDARD) + ",workers,ceiling",
    )
    parser.add_argument(
        "--frames",
        choices=get_args(Frames),
        default="changing",
        help="what the backend sends: events like OpenAI's, which change in more than the token, or constant ones",
    )
    parser.add_argument("--results", default=str(RESULTS), help="folder for the table, the figures and the plots")
    arguments = parser.parse_args()
    if unknown := set(_list(arguments.peers)) - set(PEERS):
        parser.error(f"no such peer: {', '.join(sorted(unknown))}; there are {', '.join(PEERS)}")
    if arguments.before and not (arguments.before / "gateway").is_dir():
        parser.error(f"no checkout of this project: {arguments.before}")
    return arguments


def _list(value: str) -> list[str]:
    return [name for name in value.replace(",", " ").split() if name]


if __name__ == "__main__":
    sys.exit(main())
