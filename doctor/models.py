"""Models and agents: whether everything loads that a worker would serve."""

import subprocess
import sys
from collections.abc import Iterator

from doctor.findings import Finding, note, ok, problem
from doctor.processes import Process
from doctor.settings import read
from fleet.settings import FleetSettings
from worker.settings import WorkerSettings

TIMEOUT = 90


def check(process: Process) -> Iterator[Finding]:
    """Load them in another process, as a worker with these settings does. Call it in the process's surroundings."""
    settings = read(WorkerSettings)
    if settings is None or read(FleetSettings) is None:  # told among the settings
        return
    try:
        # The environment and the folder of this process are those of the worker now.
        done = subprocess.run(
            [sys.executable, "-m", "worker", "check"], capture_output=True, text=True, timeout=TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired:
        yield problem(
            f"{settings.models}: not loaded within {TIMEOUT} s", "run python -m worker check, and see where it stops"
        )
        return
    names = [line for line in done.stdout.splitlines() if ":" in line]
    if names:
        yield ok(f"{process}: {settings.models}, {settings.agents}: {'; '.join(names)}")
    if done.returncode:
        for line in done.stderr.splitlines() or [f"python -m worker check ended with {done.returncode}"]:
            yield problem(line, "correct the entry; python -m worker check looks at it again")
    elif not names:
        yield note("nothing would be served")
