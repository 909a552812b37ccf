"""What tells that ``make`` is gone."""

import asyncio
import os
import signal
import sys

import pytest

from launcher import parent

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows a process's blocked signals")


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parent, "POLL_INTERVAL", 0.001)


async def test_a_parent_that_died_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    parents = iter([7, 7, 7, 1])
    monkeypatch.setattr(os, "getppid", lambda: next(parents))
    async with asyncio.timeout(5):
        await parent.make_gone()
    assert next(parents, None) is None


@linux
@pytest.mark.parametrize(("blocked", "gone"), [([0, 0, 2], True), ([2, 3], True), ([2, 2, 2, 0, 2], False)])
async def test_a_parent_that_blocks_a_signal_is_gone_unless_it_always_did(
    blocked: list[int], gone: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    masks = iter(blocked)
    monkeypatch.setattr(parent, "_blocked", lambda _: next(masks, blocked[-1]))
    waiting = asyncio.create_task(parent.make_gone())
    done, _ = await asyncio.wait([waiting], timeout=5 if gone else 0.05)
    assert bool(done) is gone
    waiting.cancel()


@linux
def test_a_blocked_signal_is_seen_if_it_is_fatal() -> None:
    before = signal.pthread_sigmask(signal.SIG_SETMASK, [signal.SIGUSR1])
    try:
        assert parent._blocked(os.getpid()) == 0
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        assert parent._blocked(os.getpid()) == 1 << signal.SIGINT - 1
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def test_a_process_that_does_not_exist_blocks_nothing() -> None:
    assert parent._blocked(2**30) == 0
