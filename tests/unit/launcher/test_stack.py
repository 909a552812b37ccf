"""When the launcher starts, restarts and stops its processes, on a clock that does not wait."""

import asyncio
import io
import signal
from collections.abc import Sequence
from typing import cast

import pytest

import model
from fleet.settings import BAD_SETTINGS
from launcher import stack
from launcher.child import Child
from launcher.console import Console
from launcher.settings import DRAIN, LauncherSettings
from launcher.stack import EDGES_STOP, KILL_AFTER, SELF, Backoff, Stack
from tests.harness.virtual import virtual


def now() -> float:
    return asyncio.get_running_loop().time()


class Stub:
    """A process that exits with ``codes``, one a life, and then runs until a signal that it does not ignore."""

    def __init__(self, name: str, codes: Sequence[int] = (), ignores: Sequence[signal.Signals] = ()) -> None:
        self.name = name
        self.service = name.partition(".")[0]
        self.gone = asyncio.Event()
        self.last_line = ""
        self.starts: list[float] = []
        self.signals: list[tuple[float, signal.Signals]] = []
        self._codes = list(codes)
        self._ignores = ignores
        self._ended = asyncio.Event()

    async def run(self) -> int:
        self.starts.append(now())
        if self._codes:
            return self._codes.pop(0)
        await self._ended.wait()
        return 0

    def send(self, number: signal.Signals) -> None:
        self.signals.append((now(), number))
        if number not in self._ignores:
            self._ended.set()


class Running:
    """A stack of stubs, and what it prints."""

    def __init__(self, *stubs: Stub, **settings: int) -> None:
        self.stack = Stack(LauncherSettings(**settings), {})  # type: ignore[arg-type]
        self.out = io.StringIO()
        self.console = Console(self.out, [SELF, *(stub.name for stub in stubs)], lambda: None)
        self.exit_code = asyncio.create_task(self.stack.run(cast("list[Child]", list(stubs)), self.console))


def test_back_off_doubles_to_half_a_minute_and_starts_over_after_a_long_run() -> None:
    backoff = Backoff()
    assert [backoff.after(0) for _ in range(7)] == [1, 2, 4, 8, 16, 30, 30]
    assert [backoff.after(61), backoff.after(0)] == [1, 2]


def test_the_models_exit_code_means_the_same_to_both() -> None:
    assert stack.MODEL_UNAVAILABLE == model.UNAVAILABLE


def test_streams_are_cut_off_before_those_that_they_need_are_stopped() -> None:
    assert float(DRAIN) + 1 <= EDGES_STOP < KILL_AFTER


@virtual
async def test_a_process_that_crashes_is_started_again_ever_later() -> None:
    worker = Stub("worker.1", [1, -signal.SIGSEGV, 1])
    running = Running(worker)
    await asyncio.sleep(60)
    running.stack.stop()
    assert await running.exit_code == 0
    assert worker.starts == [0, 1, 3, 7]
    assert "worker.1 ended with SIGSEGV; starting it again in 2 s" in running.out.getvalue()


@virtual
async def test_wrong_settings_stop_everything() -> None:
    worker = Stub("worker.1")
    running = Running(Stub("host", [BAD_SETTINGS]), worker)
    assert await running.exit_code == BAD_SETTINGS
    assert worker.signals == [(0, signal.SIGTERM)]


@virtual
async def test_a_model_that_cannot_run_here_is_not_started_again() -> None:
    absent, worker = Stub("model", [model.UNAVAILABLE]), Stub("worker.1")
    running = Running(absent, worker)
    await asyncio.sleep(60)
    assert (absent.starts, worker.signals) == ([0], [])
    running.stack.stop()
    assert await running.exit_code == 0


@virtual
async def test_edges_stop_first_and_what_stays_is_killed() -> None:
    host = Stub("host", ignores=[signal.SIGTERM])
    worker = Stub("worker.1", ignores=[signal.SIGTERM])
    quick = Stub("worker.2")
    running = Running(host, worker, quick)
    await asyncio.sleep(1)
    running.stack.stop()
    assert await running.exit_code == 0
    assert quick.signals == [(1, signal.SIGTERM)]
    assert worker.signals == [(1, signal.SIGTERM), (1 + KILL_AFTER, signal.SIGKILL)]
    assert host.signals == [(1 + EDGES_STOP, signal.SIGTERM), (1 + KILL_AFTER, signal.SIGKILL)]
    assert "killing host, worker.1" in running.out.getvalue()


@virtual
async def test_a_second_interrupt_kills_at_once() -> None:
    worker = Stub("worker.1", ignores=[signal.SIGTERM])
    running = Running(worker)
    await asyncio.sleep(1)
    running.stack.interrupt()
    await asyncio.sleep(0.5)
    running.stack.interrupt()
    assert await running.exit_code == 0
    assert now() == 1.5


@virtual
async def test_a_process_that_waits_for_its_next_start_does_not_delay_the_end() -> None:
    running = Running(Stub("worker.1", [1] * 9))
    await asyncio.sleep(20)
    running.stack.stop()
    await running.exit_code
    assert now() == pytest.approx(20)


async def _answers(*_: object) -> bool:
    return True


@virtual
async def test_the_stack_is_announced_below_what_is_said_of_its_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack, "_answers", _answers)
    running = Running(Stub("gateway"), Stub("worker.1"))
    await asyncio.sleep(1)
    running.stack._told["worker.1"] = "smollm2"
    for _ in range(5):
        running.console.line("worker.1", "joined")
        await asyncio.sleep(0.2)
    await asyncio.sleep(10)
    said, _, announced = running.out.getvalue().partition("Ready: ")
    assert (said.count("joined"), announced.count("joined")) == (5, 0)
    assert "with 1 worker, serving smollm2." in announced
    running.stack.stop()
    await running.exit_code


@virtual
@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({}, "serving smollm2.\nCtrl-C"),
        ({"workers": 2}, "serving smollm2.\nThe model `smollm2` makes 4 replies at once (MODEL_SLOTS), however many"),
        ({"workers": 2, "model_slots": 8}, "makes 8 replies at once"),
    ],
)
async def test_who_asks_for_more_workers_is_told_what_the_model_can_do(
    settings: dict[str, int], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stack, "_answers", _answers)
    stubs = [Stub(name) for name in ("model", "gateway", "worker.1", "worker.2")]
    running = Running(*stubs, **settings)
    await asyncio.sleep(1)
    running.stack._told.update({"worker.1": "smollm2", "worker.2": "smollm2"})  # as the workers do when they are ready
    await asyncio.sleep(10)
    assert told in running.out.getvalue()
    running.stack.stop()
    await running.exit_code
