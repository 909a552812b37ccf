"""The signals that stop a process."""

import asyncio
import os
import signal

import pytest

from fleet.process.signals import EXIT_AFTER_SECOND, stop_signals
from tests.harness.waiting import until


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_first_signal_sets_the_event_and_the_second_ends_the_process(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    stop = stop_signals()
    try:
        os.kill(os.getpid(), number)
        await until(stop.is_set)
        assert codes == []
        os.kill(os.getpid(), number)
        await until(lambda: codes)
        assert codes == [EXIT_AFTER_SECOND]
    finally:
        for handled in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().remove_signal_handler(handled)
