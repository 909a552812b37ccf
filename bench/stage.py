"""Where targets are measured: the backend and the load generator, and how each workload is run."""

import json
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any, Self

from bench import workloads
from bench.figures import percentile
from bench.generator import Generator
from bench.order import Frames
from bench.processes import CpuReading, Memory, Process, free_port, wait_until
from bench.result import Result
from bench.targets.bus import Bus
from bench.targets.target import Target, answers
from bench.window import Figures, Window, sleep_until
from bench.workloads import SETTLE, Ceiling, Chats, Flat, Idle, Leaving, Paced, Stalled, Workload


class Stage:
    """Backend and load generator; both run inside its ``with``."""

    def __init__(self, frames: Frames = "changing") -> None:
        self.port = free_port()
        self.frames: Frames = frames
        self.faults: list[str] = []
        """Examples of faults in replies, since this was last cleared."""

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="chatfleet-bench-")
        self._backend = Process(
            "backend", [sys.executable, "-m", "bench.backend", str(self.port)], Path(self._folder.name)
        )
        self._generator = Generator(self.frames)
        wait_until(lambda: answers(f"{self._url}/health") is not None, 20, "the backend is ready")
        return self

    def __exit__(self, *_: object) -> None:
        self._generator.close()
        self._backend.stop()
        self._folder.cleanup()

    @property
    def _url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _log(self) -> Any:
        return json.loads(answers(f"{self._url}/log") or b"{}")

    def _forget(self) -> None:
        urllib.request.urlopen(urllib.request.Request(f"{self._url}/log", method="DELETE"), timeout=5).close()

    def settles(self, within: float = 1.0) -> bool:
        """Whether the backend becomes idle within this many seconds."""
        try:
            wait_until(lambda: self._log()["active"] == 0, within, "the backend is idle")
        except TimeoutError:
            return False
        self._forget()
        return True

    def _end(self, window: tuple[float, float]) -> Result:
        result = self._generator.end(window)
        if result.faulty:
            self.faults.append(f"{result.faulty} of {result.requests} replies not exact: {'; '.join(result.examples)}")
        return result

    def warm_up(self, target: Target) -> None:
        """Send requests that are not measured, to open connections, load code and fill caches."""
        if not target.speaks_http:
            return
        wait_until(lambda: self._serves(target), 30, f"{target.name} serves a request")
        load = self._generator.begin(
            target, streams=8 * max(1, target.workers), requests=5, tokens=50, ramp=0.5, limit=30.0
        )
        self._end((load.start, load.start))
        self.settles()
        self.faults.clear()

    def _serves(self, target: Target) -> bool:
        load = self._generator.begin(target, tokens=1, limit=2.0)
        result = self._end((load.start, load.start))
        return result.complete == 1 and not result.faulty

    def measure(self, target: Target, workload: Workload) -> Figures:
        """Run a workload once. ``faults`` lists what was wrong with its replies."""
        self._forget()
        match workload:
            case Paced():
                return self._paced(target, workload)
            case Idle():
                return self._idle(target, workload)
            case Chats():
                return self._chats(target, workload)
            case Flat():
                return self._flat(target, workload)
            case Leaving():
                return self._leaving(target, workload)
            case Ceiling():
                return self._ceiling(target, workload)
            case workloads.Memory():
                return self._memory(target, workload)
            case Stalled():
                return self._stalled(target, workload)

    def _paced(self, target: Target, workload: Paced) -> Figures:
        load = self._generator.begin(
            target,
            streams=workload.streams,
            ramp=workload.ramp,
            tokens=workload.tokens,
            pace=workload.pace,
            kind=workload.kind,
            history=workload.history,
            limit=workload.limit,
        )
        window = self._window(target, load.start + workload.ramp + SETTLE, workload.window)
        result = self._end(window.bounds)
        return _times(result) | window.per_token(result)

    def _idle(self, target: Target, workload: Idle) -> Figures:
        before = CpuReading.of(target.processes)
        load = self._generator.begin(target, requests=workload.requests, tokens=workload.tokens, limit=60.0)
        result = self._end((load.start, load.start + 1e6))
        spent = CpuReading.of(target.processes).since(before)
        requests = result.requests
        return (
            _times(result)
            | {"request_cpu": sum(spent.values()) * 1e3 / requests}
            | {f"request_cpu.{name}": seconds * 1e3 / requests for name, seconds in spent.items()}
        )

    def _chats(self, target: Target, workload: Chats) -> Figures:
        before = CpuReading.of(target.processes)
        load = self._generator.begin(
            target,
            streams=workload.streams,
            requests=workload.requests,
            ramp=workload.ramp,
            tokens=workload.tokens,
            pace=workload.pace,
            limit=60.0,
        )
        result = self._end((load.start, load.start + 1e6))
        time.sleep(workload.settle)
        spent = CpuReading.of(target.processes).since(before)
        figures = {f"cpu.{name}": seconds * 1e6 / max(1, result.tokens) for name, seconds in spent.items()}
        return _times(result) | figures | {"cpu": sum(figures.values())}

    def _flat(self, target: Target, workload: Flat) -> Figures:
        limit = workload.window + 0.1
        load = self._generator.begin(target, streams=workload.streams, tokens=workload.tokens, limit=limit)
        window = self._window(target, load.start, workload.window)
        result = self._end(window.bounds)
        span = result.busy if result.complete == result.requests else result.window
        return {"tokens_s": result.window_tokens / span} | _soundness(result) | window.per_token(result)

    def _ceiling(self, target: Target, workload: Ceiling) -> Figures:
        """Batches/s, and how many one core of the host would carry."""
        assert isinstance(target, Bus)
        begin = time.monotonic()
        before = CpuReading.of(target.processes)
        time.sleep(workload.window)
        after = CpuReading.of(target.processes)
        batches = target.batches_per_second(begin, time.monotonic())
        cores = after.since(before)["host"] / (after.at - before.at)
        return {"batches_s": batches, "host_cores": cores, "batches_core": batches / cores}

    def _window(self, target: Target, begin: float, length: float) -> Window:
        return Window(target, self._backend, self._generator, begin, length)

    def _leaving(self, target: Target, workload: Leaving) -> Figures:
        """Milliseconds from a client's leaving until the backend's connection is closed."""
        figures: Figures = {}
        ways: dict[str, dict[str, Any]] = {"midway": {"leave_after": 5}, "early": {"leave_after": 0, "first": 60_000.0}}
        for way, how in ways.items():
            self._forget()
            load = self._generator.begin(
                target, streams=workload.clients, ramp=1.0, tokens=3000, pace=20.0, limit=10.0, **how
            )
            result = self._end((load.start, load.start))
            time.sleep(0.05)
            self._wait_for_closing(workload.within)
            closed = {record["id"]: record["closed"] for record in self._log()["records"]}
            times = [(closed[id_] - at) * 1000 for id_, at in result.left.items() if closed.get(id_) is not None]
            figures |= _soundness(result) | {f"{way}_closed": len(times) / workload.clients}
            if times:
                figures |= {f"{way}_p50": percentile(times, 50), f"{way}_max": max(times)}
        return figures

    def _wait_for_closing(self, within: float) -> None:
        deadline = time.monotonic() + within
        while self._log()["active"] and time.monotonic() < deadline:
            time.sleep(0.05)

    def _memory(self, target: Target, workload: workloads.Memory) -> Figures:
        rest = Memory.of(target.processes)
        load = self._generator.begin(
            target,
            streams=workload.streams,
            ramp=workload.ramp,
            tokens=2,
            pace=60_000.0,
            limit=workload.ramp + workload.hold + 0.5,
        )
        sleep_until(load.start + workload.ramp + workload.hold)
        opened = Memory.of(target.processes)
        result = self._end((load.start, time.monotonic()))
        figures = {"rest_rss": rest.rss / 2**20, "rest_pss": rest.pss / 2**20} | _soundness(result)
        figures["stream"] = (opened.anonymous - rest.anonymous) / 1024 / max(1, result.window_tokens)
        return figures

    def _stalled(self, target: Target, workload: Stalled) -> Figures:
        rest = Memory.of(target.processes)
        limit = workload.hold + 0.5
        load = self._generator.begin(
            target, streams=workload.clients, tokens=workload.tokens, stalled=True, limit=limit
        )
        sleep_until(load.start + workload.hold)
        stalled = Memory.of(target.processes)
        sent = sum(record["sent"] for record in self._log()["records"])
        self._end((load.start, load.start))
        return {
            "stalled_sent": sent / workload.clients,
            "stalled": (stalled.anonymous - rest.anonymous) / 1024 / workload.clients,
        }


def _times(result: Result) -> Figures:
    figures = _soundness(result)
    for name, values in (("first", result.first_token), ("delay", result.delay), ("gap", result.added_gap)):
        for percent, value in zip((50, 95, 99), values or (), strict=False):
            figures[f"{name}_p{percent}"] = value
    figures["tokens_s"] = result.window_tokens / result.window
    return figures


def _soundness(result: Result) -> Figures:
    return {"requests": result.requests, "cut": result.cut, "faulty": result.faulty}
