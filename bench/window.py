"""CPU between two moments of a load, in which all streams flow."""

import time

from bench import machine
from bench.generator import Generator
from bench.processes import CpuReading, Process
from bench.result import Result
from bench.targets.target import Target

Figures = dict[str, float]
"""One run's figures by name; a name that ends in ``.part`` is that figure's share of one of the target's parts."""


class Window:
    """The constructor waits for both moments; ``begin`` is of the monotonic clock, ``length`` in seconds."""

    def __init__(self, target: Target, backend: Process, generator: Generator, begin: float, length: float) -> None:
        sleep_until(begin)
        busy, load = machine.busy(), generator.cpu()
        first, backend_first = CpuReading.of(target.processes), CpuReading.of([backend])
        sleep_until(begin + length)
        last, backend_last = CpuReading.of(target.processes), CpuReading.of([backend])
        self.bounds = (first.at, last.at)
        self._spent = last.since(first)
        self._backend = backend_last.since(backend_first)[backend.name]
        own = sum(self._spent.values()) + self._backend + generator.cpu() - load
        self._elsewhere = max(0.0, machine.busy() - busy - own)

    def per_token(self, result: Result) -> Figures:
        """Microseconds of CPU for each token that arrived in between: in total, and by part.

        ``elsewhere`` is how many cores all other processes of the machine used meanwhile.
        """
        tokens = result.window_tokens
        if not tokens:
            return {}
        figures = {f"cpu.{name}": seconds * 1e6 / tokens for name, seconds in self._spent.items()}
        figures["cpu"] = sum(figures.values())
        figures["backend_cpu"] = self._backend * 1e6 / tokens
        figures["load_cpu"] = result.cpu * 1e6 / max(1, result.tokens)
        begin, end = self.bounds
        figures["elsewhere"] = self._elsewhere / (end - begin)
        return figures


def sleep_until(moment: float) -> None:
    """``moment`` is of the monotonic clock."""
    time.sleep(max(0.0, moment - time.monotonic()))
