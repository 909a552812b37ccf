"""What agents cost: CPU beside plain chats of the same length, and memory over many runs."""

import asyncio
from collections.abc import Callable, Iterator

import pytest

from tests.cast import write_agents
from tests.harness.chat import ask_over, body_of
from tests.harness.fleet import Fleet
from tests.harness.http import Connection
from tests.play import Play
from tests.schedule import Schedule, reply_text

pytestmark = pytest.mark.slow

MIB = 1024 * 1024
GROWTH = 4 * MIB
CLIENTS = 16
TOKENS = 300
DELAY = 0.01
"""A speaker's tokens, and seconds between two, where CPU is counted."""
TEAM = ("writer", "critic", "editor")
Say = Callable[[str], None]


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    made = Fleet(workers=0, start=False)
    write_agents(made.folder / "agents.yaml")
    for _ in range(2):
        made.new_worker(WORKER_AGENTS=str(made.folder / "agents.yaml"))
    with made:
        made.start()
        made.wait_until_ready(2)
        yield made


async def run_teams(fleet: Fleet, clients: int, runs: int, tokens: int, delay: float = 0.0) -> None:
    async def one() -> None:
        async with Connection(fleet.address) as connection:
            for seed in range(runs):
                parts = {name: [Schedule(tokens=tokens, seed=seed, delay=delay)] for name in TEAM}
                reply = await ask_over(connection, body_of(Play(parts=parts).message(), model="trio"))
                assert reply.text == 3 * reply_text(parts["writer"][0])

    await asyncio.gather(*[one() for _ in range(clients)])


async def run_chats(fleet: Fleet, clients: int, runs: int, tokens: int, delay: float = 0.0) -> None:
    async def one() -> None:
        async with Connection(fleet.address) as connection:
            for seed in range(runs):
                schedule = Schedule(tokens=tokens, seed=seed, delay=delay)
                reply = await ask_over(connection, body_of(schedule, model="test"))
                assert reply.text == reply_text(schedule)

    await asyncio.gather(*[one() for _ in range(clients)])


@pytest.mark.timeout(300)
async def test_memory_is_flat_over_many_runs(fleet: Fleet, figures: Say) -> None:
    members = [*fleet.workers, fleet.gateway]
    await run_teams(fleet, CLIENTS, 40, tokens=1)
    before = {member.name: member.memory() for member in members}
    await run_teams(fleet, CLIENTS, 80, tokens=1)
    growth = {member.name: member.memory() - before[member.name] for member in members}
    for name in before:
        figures(f"{name}: {before[name] / MIB:.1f} MiB, then {growth[name] / MIB:+.2f} MiB")
    assert max(growth.values()) < GROWTH


@pytest.mark.timeout(300)
async def test_cpu_of_a_teams_token_beside_a_plain_chats(fleet: Fleet, figures: Say) -> None:
    """A figure and no assertion: the machine may do other work."""
    await run_teams(fleet, CLIENTS, 2, tokens=10)
    members = [*fleet.workers, fleet.gateway]
    each: dict[str, float] = {}
    for kind, run, tokens in (("team", run_teams, TOKENS), ("plain", run_chats, 3 * TOKENS)):
        before = sum(member.cpu() for member in members)
        await run(fleet, CLIENTS, 1, tokens, DELAY)
        used = sum(member.cpu() for member in members) - before
        each[kind] = 1e6 * used / (CLIENTS * 3 * TOKENS)
    ratio = each["team"] / each["plain"]
    figures(f"{each['team']:.1f} µs a token of a team, {each['plain']:.1f} µs of a plain chat: {ratio:.2f}")
