"""A process starts without what only some fleets use: a worker without Claude's SDK in 1.2 instead of 2.9 s of CPU."""

import subprocess
import sys

import pytest

from tests.harness.process import ENDS, REPOSITORY

SPARED = {
    "host": {"aiohttp"},
    "gateway": {"aiohttp"},
    "worker": {"anthropic", "ollama", "mcp"},
}


@pytest.mark.parametrize("process", SPARED)
def test_what_few_need_is_imported_when_it_is_used(process: str) -> None:
    code = f"import sys, {process}.__main__; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, timeout=ENDS, check=True
    )
    assert not SPARED[process] & set(loaded.stdout.split())
