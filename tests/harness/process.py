"""One process under test: started, watched, broken and ended by its pid."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from tests.harness.waiting import wait_until

REPOSITORY = Path(__file__).parents[2]
ENDS = 200.0
"""Seconds for a program to end by itself, on a machine where many others run too. A test has 240."""
SETTINGS = ("FLEET_", "HOST_", "GATEWAY_", "WORKER_", "MODEL_", "OTEL_")
"""Prefixes of variables that no process under test inherits from whoever runs the tests."""


class Process:
    """``python -m module``. Its output of all its lives goes to one log file."""

    def __init__(
        self, name: str, module: str, folder: Path, settings: Mapping[str, str], arguments: Sequence[str] = ()
    ) -> None:
        self.name = name
        self.code = REPOSITORY
        """Whose modules it runs from its next life on."""
        self.log_file = folder / f"{name}.log"
        self._command = [sys.executable, "-m", module, *arguments]
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(SETTINGS)}
        self._environment = inherited | {"PYTHONUNBUFFERED": "1"} | dict(settings)
        self._popen: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        return f"<{self.name}, pid {self._popen.pid if self._popen else None}>"

    def start(self) -> None:
        """Begin a life. It is ready when it says so to those who ask, not when this returns."""
        assert not self.is_alive, f"{self} runs"
        with self.log_file.open("ab") as log:
            self._popen = subprocess.Popen(
                self._command, cwd=self.code, env=self._environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    @property
    def popen(self) -> subprocess.Popen[bytes]:
        assert self._popen is not None, f"{self.name} was never started"
        return self._popen

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def is_alive(self) -> bool:
        return self._popen is not None and self._popen.poll() is None

    def signal(self, number: signal.Signals) -> None:
        self.popen.send_signal(number)

    def kill(self) -> None:
        """End it at once, as a crash does."""
        self.signal(signal.SIGKILL)
        self.popen.wait(10)

    def stop(self, within: float = 15.0) -> int:
        """Ask it to end, and return its exit code. One that does not end in time is killed: ``TimeoutExpired``."""
        self.signal(signal.SIGTERM)
        try:
            return self.popen.wait(within)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def restart(self) -> None:
        """Ask it to end, and begin its next life."""
        self.stop()
        self.start()

    def freeze(self) -> None:
        """Stop the clock for it: its sockets stay open and nothing answers."""
        self.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.signal(signal.SIGCONT)

    def end(self) -> None:
        """Make sure that it is gone, in whatever state it is."""
        if self.is_alive:
            self.thaw()
            try:
                self.stop(5.0)
            except subprocess.TimeoutExpired:
                print(f"{self} did not end within 5 s of SIGTERM")

    def log(self, since: int = 0) -> str:
        """What it wrote, from the byte ``since`` of its log file."""
        if not self.log_file.exists():
            return ""
        return self.log_file.read_bytes()[since:].decode(errors="replace")

    def log_size(self) -> int:
        return self.log_file.stat().st_size if self.log_file.exists() else 0

    def wait_for_log(self, phrase: str, within: float = 10.0) -> None:
        """Until it has written ``phrase``."""
        wait_until(lambda: phrase in self.log(), within, f"{phrase!r} in the log of {self}")

    def memory(self) -> int:
        """Bytes that it and its children hold and share with nobody."""
        root = psutil.Process(self.pid)
        return sum(process.memory_full_info().uss for process in [root, *root.children(recursive=True)])

    def cpu(self) -> float:
        """Seconds of CPU that it has used."""
        times = psutil.Process(self.pid).cpu_times()
        return times.user + times.system


def end_all(processes: Sequence[Process]) -> None:
    """End processes side by side, the last started first."""
    living = [process for process in reversed(processes) if process.is_alive]
    for process in living:
        process.thaw()
        process.signal(signal.SIGTERM)
    deadline = time.monotonic() + 5.0
    for process in living:
        try:
            process.popen.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            print(f"{process} did not end within 5 s of SIGTERM and is killed")
            process.kill()
