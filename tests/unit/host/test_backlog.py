"""What may wait for a member: a sender that floods it loses its own events only."""

import random

from host import backlog
from host.backlog import EVENTS, FREE, MIB, STUCK_AFTER, WAITING, Backlog


class Receiver:
    """A member that reads when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.backlog = Backlog(lambda: self.now)
        self.waiting = 0

    def send(self, sender: str, size: int) -> bool:
        admitted = self.backlog.admits(sender, size, self.waiting)
        self.waiting += size * admitted
        return admitted

    def flood(self, sender: str, size: int) -> int:
        """Send until one is refused; returns how many bytes passed."""
        before = self.waiting
        while self.send(sender, size):
            pass
        return self.waiting - before


def test_a_flood_is_refused_and_others_still_pass() -> None:
    receiver = Receiver()
    assert receiver.flood("flood", 8 * MIB) == FREE + 8 * MIB + 8 * MIB
    assert receiver.send("other", 100)
    assert receiver.send("other", 8 * MIB)
    assert not receiver.send("flood", 8 * MIB)
    receiver.waiting = FREE
    assert receiver.send("flood", 8 * MIB), "it may go on once that was read"


def test_the_largest_event_passes_when_nothing_else_waits() -> None:
    assert Receiver().send("one", 32 * MIB)


def test_however_many_send_memory_is_bounded_and_the_reader_is_kept() -> None:
    receiver = Receiver()
    rng = random.Random(1)
    for number in range(10_000):
        receiver.send(f"sender-{number}", rng.choice([100, 60_000, 8 * MIB]))
        assert receiver.waiting <= max(EVENTS, FREE + 32 * MIB) < WAITING
        if rng.random() < 0.2:
            receiver.now += 1.0
            receiver.waiting -= rng.randint(0, receiver.waiting)
            assert receiver.send("other", 1) or not receiver.backlog.is_stuck()


def test_a_member_that_reads_nothing_is_stuck_after_a_while() -> None:
    receiver = Receiver()
    receiver.flood("flood", MIB)
    assert not receiver.backlog.is_stuck()
    receiver.now += STUCK_AFTER / 2
    receiver.waiting -= 1
    assert not receiver.send("flood", MIB)
    receiver.now += STUCK_AFTER
    assert not receiver.send("flood", MIB)
    assert not receiver.backlog.is_stuck(), "it has read a byte since"
    receiver.now += 0.1
    assert not receiver.send("flood", MIB)
    assert receiver.backlog.is_stuck()


def test_what_is_remembered_of_senders_ends_when_little_waits() -> None:
    receiver = Receiver()
    receiver.flood("one", MIB)
    for number in range(100):
        receiver.send(f"sender-{number}", MIB)
    receiver.waiting = 0
    receiver.send("one", 1)
    assert not receiver.backlog._shares
    assert backlog.FREE < backlog.EVENTS < backlog.WAITING
