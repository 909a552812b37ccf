"""Threads of tools: bounded, and nothing waits for one that is stuck."""

import asyncio
import subprocess
import sys
import threading

import pytest

from tests.harness.process import ENDS, REPOSITORY
from tests.harness.waiting import until
from worker.agents.threads import ToolThreads

STUCK = """
import asyncio, threading
from fleet.process import loop
from worker.agents.threads import ToolThreads

async def life():
    running = asyncio.get_running_loop()
    running.set_default_executor(ToolThreads(1))
    started = threading.Event()
    stuck = running.run_in_executor(None, lambda: (started.set(), threading.Event().wait()))
    while not started.is_set():
        await asyncio.sleep(0.01)
    print(await running.getaddrinfo("localhost", 80) != [])

loop.run(life())
"""


async def test_calls_give_their_results_and_errors() -> None:
    loop, threads = asyncio.get_running_loop(), ToolThreads(2)
    assert await asyncio.gather(*(loop.run_in_executor(threads, pow, 2, n) for n in range(5))) == [1, 2, 4, 8, 16]
    with pytest.raises(ZeroDivisionError):
        await loop.run_in_executor(threads, divmod, 1, 0)


async def test_no_more_calls_run_than_there_are_threads() -> None:
    loop, threads, go = asyncio.get_running_loop(), ToolThreads(2), threading.Event()
    running: list[int] = []

    def call(number: int) -> int:
        running.append(number)
        go.wait()
        return number

    calls = [loop.run_in_executor(threads, call, number) for number in range(4)]
    await until(lambda: len(running) == 2, 5, "two calls")
    calls[2].cancel()
    await asyncio.wait([calls[2]])
    go.set()
    done = await asyncio.gather(*calls, return_exceptions=True)
    assert (done[0], done[1], type(done[2]), done[3]) == (0, 1, asyncio.CancelledError, 3)
    assert 2 not in running  # its run had ended


def test_a_stuck_call_keeps_neither_names_from_being_resolved_nor_the_process_from_ending() -> None:
    done = subprocess.run(
        [sys.executable, "-c", STUCK], cwd=REPOSITORY, capture_output=True, text=True, timeout=ENDS, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")
