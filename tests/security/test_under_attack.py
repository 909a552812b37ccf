"""Attacks that go on, all of one kind of sender at once: others' streams are exact, and nothing is left afterwards."""

import asyncio
import time

import pytest

from tests.faults.crowd import Say, constant_load
from tests.harness.process import Process
from tests.schedule import Schedule
from tests.security.arena import MIB, SETTLES, Arena, Held, held, peak
from tests.security.attacks import Subject
from tests.security.attacks.runner import attack
from tests.security.attacks.table import SUBJECTS

STREAMS = 50
LASTS = 20.0
MEMORY = 300 * MIB
"""Bytes that no process may pass."""
LEFT = Held(memory=150 * MIB, descriptors=8)
"""How much more than before may be held afterwards: allocators keep a part of what they had under many attacks."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


def schedule() -> Schedule:
    return Schedule(tokens=100, delay=0.02)


async def attacked(arena: Arena, attacks: list[str]) -> list[str]:
    """How the streams of other users failed meanwhile."""
    async with constant_load(arena.address, schedule, STREAMS, model="test") as load, asyncio.TaskGroup() as group:
        for name in attacks:
            group.create_task(attack(name, arena.target, LASTS))
    assert load.completed + len(load.failures) >= STREAMS
    return load.failures


def grown(before: Held, after: Held) -> bool:
    return after.memory - before.memory > LEFT.memory or after.descriptors - before.descriptors > LEFT.descriptors


def settled(arena: Arena, before: dict[Process, Held]) -> dict[str, tuple[Held, Held]]:
    """What is not as before within the time for it."""
    deadline = time.monotonic() + SETTLES
    while True:
        after = {member: held(member) for member in arena.members}
        left = {
            member.name: (before[member], after[member]) for member in after if grown(before[member], after[member])
        }
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.5)


@pytest.mark.parametrize("subject", SUBJECTS, ids=lambda subject: subject.name)
def test_everyone_else_is_served(arena: Arena, subject: Subject, figures: Say) -> None:
    arena.renew()
    pids = {member.name: member.pid for member in arena.members}
    before = {member: held(member) for member in arena.members}
    failures = asyncio.run(attacked(arena, [name for name, _ in subject]))
    peaks = {member.name: peak(member) for member in arena.members}
    figures(", ".join(f"{name} {size / MIB:.0f} MiB" for name, size in peaks.items()))
    assert not failures, f"{len(failures)} streams: {failures[:3]}"
    assert max(peaks.values()) <= MEMORY
    assert {member.name: member.pid for member in arena.members if member.is_alive} == pids
    left = settled(arena, before)
    assert arena.is_whole(SETTLES), arena.status()
    assert not left, left
