"""One process: its output, its exit code, the signals that it is sent."""

import asyncio
import os
import signal
import sys

import pytest

from launcher.child import CHUNK, Child, describe_exit
from launcher.procfile import Service
from tests.harness.waiting import until


def child(script: str, lines: list[str]) -> Child:
    return Child("worker.1", Service("worker", (sys.executable, "-ISc", script)), {}, lines.append)


@pytest.mark.parametrize(("code", "words"), [(0, "exit code 0"), (-signal.SIGKILL, "SIGKILL"), (-40, "signal 40")])
def test_an_exit_is_described(code: int, words: str) -> None:
    assert describe_exit(code) == words


async def test_output_comes_in_lines_however_long_and_however_they_end() -> None:
    lines: list[str] = []
    script = f"import sys\nsys.stdout.write('one\\r\\ntwo\\n' + 'x' * {2 * CHUNK} + '\\nno end')\nsys.exit(7)"
    assert await child(script, lines).run() == 7
    assert lines[:2] == ["one", "two"]
    assert "".join(lines[2:]) == "x" * 2 * CHUNK + "no end"
    assert lines[-1] == "no end"


async def test_a_command_that_does_not_exist_is_reported() -> None:
    lines: list[str] = []
    missing = Child("other", Service("other", ("/no/such/program",)), {}, lines.append)
    assert await missing.run() == 1
    assert lines == ["cannot run /no/such/program: No such file or directory"]


async def test_a_signal_that_comes_before_the_start_is_sent_after_it() -> None:
    process = child("import signal\nsignal.pause()", [])
    process.send(signal.SIGTERM)
    assert await process.run() == -signal.SIGTERM


async def test_a_cancelled_run_leaves_no_process() -> None:
    lines: list[str] = []
    run = asyncio.create_task(child("import os, signal\nprint(os.getpid(), flush=True)\nsignal.pause()", lines).run())
    await until(lambda: lines)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    with pytest.raises(ProcessLookupError):
        os.kill(int(lines[0]), 0)
