"""What a process runs on. In a process of its own, whose limits it changes."""

import subprocess
import sys

from tests.harness.process import REPOSITORY

SCRIPT = """
import asyncio, gc, resource
from fleet.process import loop

async def life():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    print(type(asyncio.get_running_loop()).__module__, gc.get_freeze_count() > 0, soft)

resource.setrlimit(resource.RLIMIT_NOFILE, (64, 2048))
loop.run(life())
"""


def test_a_process_runs_on_uvloop_with_all_the_files_that_the_system_permits() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=30
    )
    assert ran.stdout.split() == ["uvloop", "True", "2048"]
