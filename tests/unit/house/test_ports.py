"""The ports of test runs side by side."""

import subprocess
import sys

from tests.harness.ports import BLOCK, free_port
from tests.harness.process import REPOSITORY

OTHER = f"from tests.harness.ports import free_port\nprint(*(free_port() for _ in range({BLOCK})))"


def test_test_runs_side_by_side_have_no_port_in_common() -> None:
    own = {free_port() for _ in range(BLOCK // 2)}
    ran = subprocess.run(
        [sys.executable, "-c", OTHER], cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=30
    )
    others = {int(port) for port in ran.stdout.split()}
    assert len(own) == BLOCK // 2, "a port was given twice while others were free"
    assert others
    assert not own & others
