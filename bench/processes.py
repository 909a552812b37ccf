"""Processes of a target: they are started, measured with all their children, and ended by their ids."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import psutil

REPOSITORY = Path(__file__).parents[1]
SETTINGS = ("FLEET_", "HOST_", "GATEWAY_", "WORKER_", "MODEL_", "LITELLM_", "OPENAI_", "OTEL_")
"""Prefixes of environment variables that targets do not inherit."""


class Process:
    """A command, started by its constructor in ``tree``; its output goes to a file in ``folder``.

    ``name`` is its role in the target, such as ``worker``.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        folder: Path,
        settings: Mapping[str, str] | None = None,
        tree: Path = REPOSITORY,
    ) -> None:
        self.name = name
        self.log_file = folder / f"{name}.log"
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(SETTINGS)}
        with self.log_file.open("ab") as log:
            self._popen = subprocess.Popen(
                list(command),
                cwd=tree,
                env=inherited | dict(settings or {}),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._root = psutil.Process(self._popen.pid)

    @property
    def is_alive(self) -> bool:
        return self._popen.poll() is None

    def tree(self) -> list[psutil.Process]:
        """The process and all its descendants; empty once it has ended."""
        try:
            return [self._root, *self._root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def ask_to_stop(self) -> None:
        if self.is_alive:
            self._popen.send_signal(signal.SIGTERM)

    def stop(self, within: float = 8.0) -> None:
        """End it and its children: SIGTERM first, SIGKILL after ``within`` seconds."""
        tree = self.tree()
        self.ask_to_stop()
        try:
            self._popen.wait(within)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()
        for process in tree[1:]:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue

    def log(self) -> str:
        """The end of its output."""
        return self.log_file.read_text(errors="replace")[-2000:]


def stop_all(processes: Sequence[Process]) -> None:
    """End processes concurrently, the last one started first."""
    for process in reversed(processes):
        process.ask_to_stop()
    for process in reversed(processes):
        process.stop()


class CpuReading(NamedTuple):
    """The CPU that processes have used, in nanoseconds by process id, and the role of each in its target."""

    at: float
    used: dict[int, int]
    names: dict[int, str]

    @classmethod
    def of(cls, processes: Iterable[Process]) -> "CpuReading":
        used: dict[int, int] = {}
        names: dict[int, str] = {}
        for process in processes:
            for member in process.tree():
                nanoseconds = cpu_time(member)
                if nanoseconds is not None:
                    used[member.pid], names[member.pid] = nanoseconds, process.name
        return cls(time.monotonic(), used, names)

    def since(self, earlier: "CpuReading") -> dict[str, float]:
        """Seconds of CPU used since then, by role. A process that started in between counts from 0."""
        spent: dict[str, float] = {}
        for pid, nanoseconds in self.used.items():
            delta = (nanoseconds - earlier.used.get(pid, 0)) / 1e9
            spent[self.names[pid]] = spent.get(self.names[pid], 0.0) + delta
        return spent


def cpu_time(process: psutil.Process) -> int | None:
    """Nanoseconds of CPU, user and system, of all threads that it has or had; None once it has ended.

    On Linux this reads the process's CPU clock (clock_getcpuclockid(3)); other systems count in ticks.
    """
    try:
        if os.uname().sysname == "Linux":
            return time.clock_gettime_ns((~process.pid << 3) | 2)
        times = process.cpu_times()
        return int((times.user + times.system) * 1e9)
    except (OSError, psutil.NoSuchProcess):
        return None


class Memory(NamedTuple):
    """Bytes that a target's processes hold. ``pss`` divides a shared page equally among the processes that share it.

    ``anonymous`` is the part of ``pss`` that is not files. Only this part is compared between two moments, because the
    share of a library's pages changes when any process of the machine that uses the library starts or ends.
    """

    rss: int
    pss: int
    anonymous: int

    @classmethod
    def of(cls, processes: Iterable[Process]) -> "Memory":
        rss = pss = anonymous = 0
        for process in processes:
            for member in process.tree():
                full = member.memory_full_info()
                own = getattr(full, "pss", full.uss)
                rss += full.rss
                pss += own
                anonymous += _anonymous(member.pid, own)
        return cls(rss, pss, anonymous)


def _anonymous(pid: int, otherwise: int) -> int:
    rollup = Path(f"/proc/{pid}/smaps_rollup")
    if rollup.exists():
        for line in rollup.read_text().splitlines():
            if line.startswith("Pss_Anon:"):
                return int(line.split()[1]) * 1024
    return otherwise


_given: set[int] = set()


def free_port() -> int:
    """A TCP port on loopback that is free now, and that was not returned before."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        if port not in _given:
            _given.add(port)
            return port


def wait_until(condition: Callable[[], object], within: float, what: str) -> None:
    """Poll until it holds. Raises ``TimeoutError``, which names ``what``, after ``within`` seconds."""
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {within:g} s")
        time.sleep(0.02)
