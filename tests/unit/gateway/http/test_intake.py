"""What is received, in small and in large reads, of one connection and of many."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.process import turns
from fleet.process.turns import Turns
from gateway.http.intake import PIECE, SHORT, Flow, Intake


class Source(asyncio.Transport):
    """Reads what it is given, as a real transport does: nothing while it is paused."""

    def __init__(self, shared: Turns | None = None) -> None:
        super().__init__()
        self.paused = self.closed = False
        self.taken: list[bytes] = []
        self.flow = Flow(self)
        self.intake = Intake(self, self.flow, shared or Turns(), self.taken.append)

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        assert not self.closed
        self.paused = True

    def resume_reading(self) -> None:
        assert not self.closed
        self.paused = False

    async def read(self, data: bytes) -> None:
        await self.settle()
        assert not self.paused
        self.intake.receive(data)

    async def settle(self) -> None:
        async with asyncio.timeout(10):
            while self.paused and not self.flow.read_paused:
                await asyncio.sleep(0)


sizes = st.sampled_from([1, SHORT, SHORT + 1, PIECE - 1, PIECE, PIECE + 1, 5 * PIECE + 7])


@given(st.lists(sizes, max_size=8))
def test_all_is_taken_in_order_and_in_small_pieces(reads: list[int]) -> None:
    async def taken() -> list[bytes]:
        source, sent = Source(), bytearray()
        for number, size in enumerate(reads):
            data = bytes([number]) * size
            sent += data
            await source.read(data)
        await source.settle()
        assert b"".join(source.taken) == sent
        return source.taken

    assert all(len(piece) <= PIECE for piece in asyncio.run(taken()))


async def test_a_small_read_is_taken_at_once() -> None:
    source = Source()
    source.intake.receive(bytes(SHORT))
    assert source.taken == [bytes(SHORT)]
    assert not source.paused


async def test_many_large_reads_let_the_loop_run_between_their_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that arrive in one pass of the loop, which otherwise would end when all are parsed."""
    monkeypatch.setattr(turns, "TURN", 0.0)
    passes = 0

    async def others() -> None:
        nonlocal passes
        while True:
            passes += 1
            await asyncio.sleep(0)

    beside = asyncio.create_task(others())
    shared = Turns()
    sources = [Source(shared) for _ in range(20)]
    for source in sources:
        source.intake.receive(bytes(4 * PIECE))
    assert not any(source.taken for source in sources)
    for source in sources:
        await source.settle()
    beside.cancel()
    assert all(len(source.taken) == 4 for source in sources)
    assert passes >= 20 * 4


async def test_nothing_is_read_while_a_read_waits_whoever_resumes() -> None:
    source = Source()
    source.intake.receive(bytes(2 * PIECE))
    source.flow.pause_reading()
    source.flow.resume_reading()
    assert source.paused
    await source.settle()
    assert not source.paused


async def test_reading_that_the_application_paused_stays_paused() -> None:
    source = Source()
    source.intake.receive(bytes(2 * PIECE))
    source.flow.pause_reading()
    while len(source.taken) < 2:
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert source.paused
    source.flow.resume_reading()
    assert not source.paused


@pytest.mark.parametrize("ends", ["closed", "lost"])
async def test_nothing_is_taken_after_the_end(ends: str) -> None:
    shared, source = Turns(), Source()
    source.intake = Intake(source, source.flow, shared, source.taken.append)
    async with shared.turn():
        source.intake.receive(bytes(2 * PIECE))
        source.closed = True
        if ends == "lost":
            source.intake.end()
        await asyncio.sleep(0)
    async with asyncio.timeout(10), shared.turn():  # it holds no turn for ever
        await asyncio.sleep(0)
    assert source.taken == []
