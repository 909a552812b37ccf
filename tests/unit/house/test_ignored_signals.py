"""Tests that send signals pass where whoever runs them ignores signals, as nohup does."""

import os
import signal
import subprocess
import sys

import pytest

from tests.harness.process import ENDS, REPOSITORY

IGNORING = """
import os, signal, sys
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
    signal.signal(number, signal.SIG_IGN)
os.execv(sys.executable, [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *sys.argv[1:]])
"""


@pytest.mark.skipif("CHATFLEET_IGNORING" in os.environ, reason="runs within itself")
def test_a_signal_that_is_ignored_here_reaches_what_a_test_starts() -> None:
    this = f"{__file__}::test_a_child_ends_by_every_signal"
    command = [sys.executable, "-c", IGNORING, this]
    settings = os.environ | {"CHATFLEET_IGNORING": "1"}
    done = subprocess.run(
        command, cwd=REPOSITORY, env=settings, capture_output=True, text=True, timeout=ENDS, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM])
def test_a_child_ends_by_every_signal(number: signal.Signals) -> None:
    child = subprocess.Popen(["sleep", "60"])
    child.send_signal(number)
    assert child.wait(10) == -number
