"""The load generator's process, seen from the stage: see :mod:`bench.load`."""

import itertools
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import psutil

from bench.frames import MODEL
from bench.load import Load
from bench.order import Frames
from bench.processes import REPOSITORY, cpu_time
from bench.result import Result
from bench.targets.target import Target

SOON = 0.15
"""Seconds from ordering a load to its start."""


class Generator:
    """Starts its process when it is made; :meth:`close` ends it."""

    def __init__(self, frames: Frames) -> None:
        self._frames: Frames = frames
        self._ids: Iterator[int] = itertools.count()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.load"],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()

    def begin(self, target: Target, **what: Any) -> Load:
        """Order a load; it starts :data:`SOON`."""
        name = f"r{next(self._ids):x}"
        load = Load(target.ports, MODEL, target.key, name, time.monotonic() + SOON, frames=self._frames, **what)
        self._write(asdict(load))
        return load

    def end(self, window: tuple[float, float]) -> Result:
        """Wait for the end of the load. The result counts what arrived in this window."""
        self._write(window)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the load generator ended")
        return Result.from_json(line)

    def cpu(self) -> float:
        """Seconds of CPU that it has used."""
        return (cpu_time(psutil.Process(self._process.pid)) or 0) / 1e9

    def _write(self, value: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(value) + "\n")
        self._process.stdin.flush()
