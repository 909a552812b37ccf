"""``python -m bench``: measure targets in turn, print one table and save it with its plots in ``bench/results``."""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, get_args

from bench import goals, machine
from bench.order import Frames
from bench.plots import plots
from bench.report import OURS, Measured, Report
from bench.stage import Figures, Stage
from bench.targets.bus import Bus
from bench.targets.direct import Direct
from bench.targets.fleet import Fleet
from bench.targets.litellm import LiteLLM
from bench.targets.naive import Naive
from bench.targets.peer import Peer, PeerMissing
from bench.targets.production_stack import ProductionStack
from bench.targets.proxy import Proxy
from bench.targets.smg import Smg
from bench.targets.target import Target
from bench.workloads import BUSY, CROWD, FLAT, MANY, STANDARD, Ceiling, Workload, each

RESULTS = Path(__file__).parent / "results"
PEERS: dict[str, type[Peer]] = {peer.name: peer for peer in (LiteLLM, ProductionStack, Smg)}
BATCHES = (1, 16, 128)
"""Chunks in a batch."""
SCALES: dict[int, Sequence[Workload]] = {1: (BUSY, each(1), FLAT), 4: (BUSY, each(4)), 8: (BUSY, each(8))}
"""Numbers of workers that are measured besides the usual two, and what with."""


BASE = ("idle", "paced16", "paced200")
"""What is measured without a gateway too: with more, the whole would take too long."""
OBVIOUS = ("idle", "light16", "paced16", "flat16", "leaving")
"""What the obvious way is measured with: what it cannot keep up with takes long and shows nothing more."""


class Part(NamedTuple):
    """What is measured of one target in each run."""

    name: str
    target: Target
    workloads: Sequence[Workload]
    column: bool = True
    """Whether it has a column of the table."""


def main() -> int:
    """The exit code: 0, or 1 if something could not be measured, or gave replies that were not exact."""
    arguments = _arguments()
    with Stage(arguments.frames) as stage:
        parts = plan(stage.port, _list(arguments.targets), _list(arguments.peers), _list(arguments.workloads))
        report = collect(stage, parts, arguments.runs)
    table = report.as_markdown() + "\n".join([*goals.table(report), ""])
    print(table)
    save(report, table, Path(arguments.results))
    # The baseline may lose tokens: that is part of what it shows.
    return int(any(target.problems for name, target in report.targets.items() if name != Naive.name))


def collect(stage: Stage, parts: Sequence[Part], runs: int) -> Report:
    """Measure every part in every run: one after the other, so that what else the machine does hits all alike."""
    report = Report(machine.facts(), runs, [part.name for part in parts if part.column], frames=stage.frames)
    missing = prepare(parts, report)
    for run in range(runs):
        direct: dict[str, Figures] = {}
        for part in parts:
            if part.name not in missing:
                say(f"run {run + 1} of {runs}: {part.name}")
                measure(stage, part, report.targets[part.name], direct)
    return report


def prepare(parts: Sequence[Part], report: Report) -> set[str]:
    """Install what is to be measured; the names of those that cannot be."""
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


def plan(port: int, targets: Sequence[str], peers: Sequence[str], names: Sequence[str]) -> list[Part]:
    """What to measure: ``direct`` first, because the others' first tokens are compared with its own."""
    workloads = [workload for workload in STANDARD if not names or workload.name in names]
    base = [work for work in workloads if work.name in BASE]
    parts = [Part(Direct.name, Direct(port), base)]
    if OURS in targets:
        parts.append(Part(OURS, Fleet(port), workloads))
        if not names or "workers" in names:
            parts += [
                Part(f"{OURS}, {count} workers", Fleet(port, workers=count), work, column=False)
                for count, work in SCALES.items()
            ]
        if "ceiling" in names:
            parts += ceiling(port)
    if Naive.name in targets:
        parts.append(Part(Naive.name, Naive(port), [work for work in workloads if work.name in OBVIOUS]))
    if Proxy.name in targets:
        parts.append(Part(Proxy.name, Proxy(port), workloads))
    parts += [Part(name, PEERS[name](port), workloads) for name in peers]
    return parts


def ceiling(port: int) -> list[Part]:
    """How much one host carries: alone, and in a fleet with several of everything else."""
    hosts = [Part(f"host, batches of {chunks}", Bus(port, chunks), [Ceiling()], column=False) for chunks in BATCHES]
    fleets = [
        Part(f"{workers} workers, {gateways} gateways", Fleet(port, workers, gateways), [BUSY, MANY], column=False)
        for workers, gateways in ((1, 1), (2, 1), (2, 2), (4, 4))
    ]
    return hosts + fleets


def measure(stage: Stage, part: Part, measured: Measured, direct: dict[str, Figures]) -> None:
    """One run of one part. A target that still has something to do after a workload is started anew."""
    waiting = list(part.workloads)
    try:
        while waiting:
            with part.target as target:
                stage.warm_up(target)
                while waiting:
                    workload = waiting.pop(0)
                    begin = time.monotonic()
                    figures = stage.measure(target, workload)
                    say(f"    {workload.name}: {time.monotonic() - begin:.0f} s")
                    if part.name == Direct.name:
                        direct[workload.name] = figures
                    measured.add(workload.name, figures | added(figures, direct.get(workload.name, {})))
                    note(stage, workload, measured)
                    if workload is BUSY and figures["cut"] == BUSY.streams and CROWD in waiting:
                        waiting.remove(CROWD)
                        measured.remarks.add(
                            f"not one of {BUSY.streams} streams was done in time, so 1,000 were not tried"
                        )
                    if not stage.settles():
                        break
    except (OSError, RuntimeError) as error:
        measured.problems.append(f"stopped: {error}")
        say("\n".join([f"{part.name}: {error}", *getattr(error, "__notes__", ())]))


def note(stage: Stage, workload: Workload, measured: Measured) -> None:
    """Keep what was wrong with the replies."""
    measured.problems += [f"{workload.name}: {fault}" for fault in stage.faults]
    stage.faults.clear()


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
    for name, plot in plots(report).items():
        (folder / name).write_text(plot.as_svg())


def say(words: str) -> None:
    """Tell how far it is."""
    print(words, file=sys.stderr, flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="how often everything is measured")
    ours = f"{OURS},{Naive.name},{Proxy.name}"
    parser.add_argument("--targets", default=ours, help=f"of ours and the baselines: {ours}")
    parser.add_argument("--peers", default="", help="litellm,production-stack,smg")
    parser.add_argument(
        "--workloads",
        default="",
        help="all, or some of " + ",".join(work.name for work in STANDARD) + ",workers,ceiling",
    )
    parser.add_argument(
        "--frames",
        choices=get_args(Frames),
        default="changing",
        help="events as OpenAI sends them, which change all over, or events that differ in their token only",
    )
    parser.add_argument("--results", default=str(RESULTS), help="folder for the table, the figures and the plots")
    arguments = parser.parse_args()
    if unknown := set(_list(arguments.peers)) - set(PEERS):
        parser.error(f"no such peer: {', '.join(sorted(unknown))}; there are {', '.join(PEERS)}")
    return arguments


def _list(value: str) -> list[str]:
    return [name for name in value.replace(",", " ").split() if name]


if __name__ == "__main__":
    sys.exit(main())
