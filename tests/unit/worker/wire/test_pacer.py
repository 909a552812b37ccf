"""Many streams read together, on real sockets."""

import asyncio
import select
import socket
import time
from collections.abc import AsyncIterator, Callable
from functools import partial

import pytest

from fleet.lane import slot
from tests.harness.waiting import until
from worker.wire.pacer import Pacer

pytestmark = pytest.mark.both_loops

INTERVAL = 0.02
TRIES = 10
"""A busy machine may hold the test up until the slot is over, but not each time."""


class End:
    """One stream's end that is read, and the other one, that is written to."""

    def __init__(self, done: bool = True) -> None:
        self.near, self.far = socket.socketpair()
        self.near.setblocking(False)
        self.done = done
        self.got: list[tuple[bytes, int]] = []
        """What was read, and in which slot of the pacer."""
        self.slot: Callable[[], int] = lambda: 0

    def read(self) -> bool:
        self.got.append((self.near.recv(1024), self.slot()))
        return self.done

    def close(self) -> None:
        self.near.close()
        self.far.close()


class Desk:
    """A pacer whose calls are written down in order."""

    def __init__(self, interval: float = INTERVAL) -> None:
        self.calls: list[str] = []
        self.ends: list[End] = []
        self.pacer = Pacer(interval, lambda: self.calls.append("begin"), lambda all_: self.calls.append(f"end {all_}"))

    def add(self, end: End, read: Callable[[], bool] | None = None) -> End:
        def noted() -> bool:
            self.calls.append("read")
            return (read or end.read)()

        self.ends.append(end)
        end.slot = lambda: self.pacer._slot
        self.pacer.add(end.near.fileno(), noted)
        return end

    def remove(self, end: End) -> None:
        self.pacer.remove(end.near.fileno())
        self.ends.remove(end)
        end.close()

    def close(self) -> None:
        for end in list(self.ends):
            self.remove(end)
        self.pacer.close()


@pytest.fixture(autouse=True)
def _long_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that stands still within a turn cuts it."""
    monkeypatch.setattr("worker.wire.pacer.TURN", 60.0)


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    made = Desk()
    yield made
    made.close()


async def the_begin_of_a_slot() -> int:
    """Wait for one, so that what follows lies in it."""
    number = slot(time.monotonic(), INTERVAL) + 1
    await until(lambda: slot(time.monotonic(), INTERVAL) >= number)
    return number


async def silence() -> None:
    """Long enough for every timer of the pacer to have fired."""
    await asyncio.sleep(3 * INTERVAL)


async def test_the_first_thing_after_a_silence_is_read_at_once(desk: Desk) -> None:
    end = desk.add(End())
    for tried in range(TRIES):
        await silence()
        number = await the_begin_of_a_slot()
        end.far.send(b"a")
        await until(lambda: end.got)
        assert desk.calls == ["begin", "read", "end True"] * (tried + 1)
        if end.got.pop() == (b"a", number):
            return
    pytest.fail("it was read in a later slot")


async def test_a_second_thing_within_a_slot_waits_for_the_next(desk: Desk) -> None:
    end = desk.add(End())
    await the_begin_of_a_slot()
    end.far.send(b"a")
    await until(lambda: end.got)
    end.far.send(b"b")
    await until(lambda: len(end.got) == 2)
    (first, slot_of_first), (second, slot_of_second) = end.got
    assert (first, second) == (b"a", b"b")
    assert slot_of_first < slot_of_second


async def test_what_comes_for_several_within_a_slot_is_read_in_one_go(desk: Desk) -> None:
    first, *others = [desk.add(End()) for _ in range(5)]
    await the_begin_of_a_slot()
    first.far.send(b"a")
    await until(lambda: first.got)
    for end in others:
        end.far.send(b"b")
        end.far.send(b"c")
    await until(lambda: all(end.got for end in others))
    assert [end.got[0][0] for end in others] == [b"bc"] * 4
    assert desk.calls == ["begin", "read", "end True", "begin", *["read"] * 4, "end True"]


async def test_a_turn_of_the_loop_reads_for_a_bounded_time_and_the_next_begins_with_the_rest(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.wire.pacer.TURN", 0.0)
    ends = [desk.add(End()) for _ in range(3)]
    order: list[int] = []

    def read(number: int) -> bool:
        order.append(number)
        return False

    for number, end in enumerate(ends):
        desk.pacer._reads[end.near.fileno()] = partial(read, number)
        end.far.send(b"a")
    await until(lambda: len(order) >= 6)  # never read empty: all stay ready
    assert order[:6] == [*order[:3], *order[:3]]
    assert sorted(order[:3]) == [0, 1, 2]
    for end in list(ends):
        desk.remove(end)


async def test_as_long_as_things_come_they_are_read_once_in_a_slot(desk: Desk) -> None:
    end = desk.add(End())
    async with asyncio.timeout(5):
        while len(end.got) < 5:
            end.far.send(b"a")
            await asyncio.sleep(0.001)
    slots = [number for _, number in end.got]
    assert len(slots) == len(set(slots))


async def test_the_end_tells_whether_all_was_dealt_with(desk: Desk) -> None:
    ends = [desk.add(End()), desk.add(End(done=False))]
    await the_begin_of_a_slot()
    ends[0].far.send(b"a")
    await until(lambda: ends[0].got)
    for end in ends:
        end.far.send(b"b")
    await until(lambda: ends[1].got)
    assert [call for call in desk.calls if call.startswith("end")] == ["end True", "end False"]


async def test_removing_the_last_leaves_nothing_that_wakes(desk: Desk) -> None:
    loop = asyncio.get_running_loop()
    for number in range(3):
        end = desk.add(End())
        for _ in range(number):  # so that it listens, or has a timer
            end.far.send(b"a")
            await asyncio.sleep(0.001)
        desk.remove(end)
        assert desk.pacer._timer is None
        assert not loop.remove_reader(desk.pacer._poll.fd)
    before = list(desk.calls)
    await silence()
    assert desk.calls == before


async def test_a_read_that_removes_the_last_leaves_nothing_that_wakes(desk: Desk) -> None:
    end = End()

    def read() -> bool:
        end.read()
        if len(end.got) == 2:
            desk.remove(end)
        return True

    desk.add(end, read)
    await the_begin_of_a_slot()
    end.far.send(b"a")
    await until(lambda: end.got)
    end.far.send(b"b")  # read by the timer
    await until(lambda: len(end.got) == 2)
    assert desk.pacer._timer is None
    assert not asyncio.get_running_loop().remove_reader(desk.pacer._poll.fd)


async def test_one_added_later_is_read_too(desk: Desk) -> None:
    for _ in range(3):
        end = desk.add(End())
        end.far.send(b"a")
        await until(lambda: end.got)  # noqa: B023
        desk.remove(end)


async def test_a_descriptor_that_is_used_again_belongs_to_the_new_one(desk: Desk) -> None:
    old = desk.add(End())
    number = old.near.fileno()
    old.far.send(b"old")
    desk.remove(old)
    new = desk.add(End())
    assert number in (new.near.fileno(), new.far.fileno())
    new.far.send(b"new")
    await until(lambda: new.got)
    assert (old.got, new.got[0][0]) == ([], b"new")


@pytest.mark.parametrize("by_timer", [False, True])
async def test_a_read_that_raises_stops_nobody_else(desk: Desk, by_timer: bool) -> None:
    """As it may come first in every slot."""
    said: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(str(context["exception"])))

    def read() -> bool:
        raise RuntimeError("broken")

    broken, other = desk.add(End(), read), desk.add(End())
    await silence()
    await the_begin_of_a_slot()
    if by_timer:
        other.far.send(b"a")
        await until(lambda: other.got)
    broken.far.send(b"a")
    other.far.send(b"b")
    await until(lambda: len(other.got) == 1 + by_timer)
    assert desk.calls[-1] == "end False"
    await until(lambda: len(said) >= 3)  # it is asked in the next slots again
    other.far.send(b"c")
    await until(lambda: len(other.got) == 2 + by_timer)
    assert set(said) == {"broken"}


async def test_an_end_that_raises_stops_nothing() -> None:
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)

    def raise_(_: bool) -> None:
        raise RuntimeError

    pacer, end = Pacer(INTERVAL, end=raise_), End()
    pacer.add(end.near.fileno(), end.read)
    for count in range(1, 4):
        end.far.send(b"a")
        await until(lambda: len(end.got) == count)  # noqa: B023
    pacer.remove(end.near.fileno())
    pacer.close()
    end.close()


async def test_a_system_without_epoll_reads_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(select, "epoll")
    desk = Desk()
    first, second = desk.add(End()), desk.add(End())
    await the_begin_of_a_slot()
    first.far.send(b"a")
    await until(lambda: first.got)
    for end in (first, second):
        end.far.send(b"b")
    await until(lambda: len(first.got) == 2 and second.got)
    assert desk.calls == ["begin", "read", "end True", "begin", "read", "read", "end True"]
    desk.remove(first)
    second.far.send(b"c")
    await until(lambda: len(second.got) == 2)
    desk.close()
