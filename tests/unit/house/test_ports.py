"""The ports of test runs side by side."""

import subprocess
import sys

from tests.harness.ports import BLOCK, RANGE, free_port
from tests.harness.process import ENDS, REPOSITORY

TAKEN = """
import contextlib, fcntl, random
from tests.harness.ports import RANGE, claim_of, free_port

with claim_of(RANGE.start).open("ab") as claim:
    with contextlib.suppress(BlockingIOError):  # a test run has it, maybe this one: as good
        fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
    random.sample = lambda blocks, _: blocks
    print(free_port())
"""
OTHER = f"from tests.harness.ports import free_port\nprint(*(free_port() for _ in range({BLOCK})))"


def test_test_runs_side_by_side_have_no_port_in_common() -> None:
    own = {free_port() for _ in range(BLOCK // 2)}
    others = {int(port) for port in run(OTHER)}
    assert len(own) == BLOCK // 2, "a port was given twice while others were free"
    assert others
    assert not own & others


def test_a_block_that_is_taken_is_left_alone() -> None:
    (port,) = run(TAKEN)
    assert int(port) >= RANGE.start + BLOCK


def run(script: str) -> list[str]:
    """What it printed. A file that it loses is on its standard error."""
    command = [sys.executable, "-W", "always::ResourceWarning", "-c", script]
    ran = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=ENDS)
    assert not ran.stderr
    return ran.stdout.split()
