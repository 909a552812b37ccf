"""Measuring: parts of the benchmark one after the other, or side by side."""

import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import NamedTuple, Self

from bench.report import Measured, Report
from bench.stage import Stage
from bench.targets.direct import Direct
from bench.targets.target import Target
from bench.window import Figures
from bench.workloads import BUSY, Memory, Paced, Stalled, Workload


class Part(NamedTuple):
    """What is measured of one target in each run."""

    name: str
    target: Target
    workloads: Sequence[Workload]
    column: bool = True
    """Whether it has a column of the table."""


class Session:
    """One part in one run. Its target is started when it is first needed, and stopped at the end of the ``with``."""

    def __init__(self, stage: Stage, part: Part, measured: Measured) -> None:
        self._stage = stage
        self._part = part
        self._measured = measured
        self._waiting = list(part.workloads)
        self._running = ExitStack()
        self._target: Target | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def measure(self, workload: Workload, direct: dict[str, Figures]) -> None:
        """Run a workload, if it is one of this part's. ``direct`` holds the figures of :class:`Direct` by workload."""
        if workload not in self._waiting:
            return
        self._waiting.remove(workload)
        begin = time.monotonic()
        try:
            figures = self._stage.measure(self._started(), workload)
            if self._part.name == Direct.name:
                direct[workload.name] = figures
            self._measured.add(workload.name, figures | added(figures, direct.get(workload.name, {})))
            self._note(workload)
            self._spare(workload, figures)
            if not self._stage.settles():
                self.stop()  # a target that is still busy is started again for the next workload
        except (OSError, RuntimeError) as error:
            self._give_up(error)
        else:
            say(f"    {self._part.name}, {workload.name}: {time.monotonic() - begin:.0f} s")

    def stop(self) -> None:
        """Stop the target; the next workload starts it again."""
        self._running.close()
        self._target = None

    def _started(self) -> Target:
        if self._target is None:
            self._target = self._running.enter_context(self._part.target)
            self._stage.warm_up(self._target)
        return self._target

    def _note(self, workload: Workload) -> None:
        """Record what was wrong with the replies."""
        self._measured.problems += [f"{workload.name}: {fault}" for fault in self._stage.faults]
        self._stage.faults.clear()

    def _spare(self, workload: Workload, figures: Figures) -> None:
        """Skip workloads of as many streams or more if every stream was cut."""
        if workload is not BUSY or figures["cut"] < BUSY.streams:
            return
        self._waiting = [
            other for other in self._waiting if not isinstance(other, Paced) or other.streams < BUSY.streams
        ]
        self._measured.remarks.add(
            f"not one of {BUSY.streams} streams was done in time, so neither 1,000 nor other kinds of 200 were tried"
        )

    def _give_up(self, error: Exception) -> None:
        self._waiting.clear()
        self._measured.problems.append(f"stopped: {error}")
        say("\n".join([f"{self._part.name}: {error}", *getattr(error, "__notes__", ())]))
        self.stop()


def measure(
    stage: Stage, group: Sequence[Part], report: Report, direct: dict[str, Figures], *, is_turned: bool
) -> None:
    """Measure a group of parts once, side by side.

    All targets run; each workload is measured on one after the other, so other work of the machine affects them alike.
    ``is_turned`` reverses their order, but :class:`Direct` stays first, because the others' first tokens are compared
    with its.
    """
    parts = list(reversed(group)) if is_turned else list(group)
    parts.sort(key=lambda part: part.name != Direct.name)
    longest_first = sorted(parts, key=lambda part: -len(part.workloads))
    with ExitStack() as stack:
        sessions = [stack.enter_context(Session(stage, part, report.targets[part.name])) for part in parts]
        for workload in dict.fromkeys(workload for part in longest_first for workload in part.workloads):
            for session in sessions:
                session.measure(workload, direct)
                if isinstance(workload, Memory | Stalled):
                    session.stop()  # targets that run side by side share pages, which would count in part only


def added(figures: Figures, direct: Figures) -> Figures:
    """How much later the first token came than the median first token without a gateway, in the same run."""
    base = direct.get("first_p50")
    if base is None:
        return {}
    return {f"added_{name}": value - base for name, value in figures.items() if name.startswith("first_p")}


def say(words: str) -> None:
    """Show progress."""
    print(words, file=sys.stderr, flush=True)
