"""Chaos: members are killed, frozen and restarted at random, and every stream stays exact or ends as it may."""

import asyncio
import contextlib
import dataclasses
import functools
import os
import random
import secrets
import time
from collections import Counter
from collections.abc import Iterator

import psutil
import pytest

from tests.faults.crowd import Client, Say
from tests.harness.fleet import Fleet
from tests.harness.process import Process
from tests.harness.waiting import wait_until
from tests.schedule import Schedule, reply_text
from tests.security.arena import MIB, held
from tests.security.fuzz import GIVEN_SEED

LASTS = 180.0
STREAMS = 50
CALM = 15.0
"""Seconds before the end without a new fault."""
PATIENCE = 100.0
"""Seconds for one stream, with everything that may be broken and mended meanwhile."""
STOPS_WITHIN = 30.0
SETTLES = 60.0
GROWTH = 40 * MIB
"""Bytes that a process may hold more than when it had just been started."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(LASTS + 240)]


@dataclasses.dataclass
class Outage:
    """When a gateway was down, or about to be."""

    gateway: int
    since: float
    until: float = float("inf")


class Chaos:
    """Breaks one member after the other, the same way for the same seed."""

    def __init__(self, fleet: Fleet, seed: int) -> None:
        self._fleet = fleet
        self._random = random.Random(seed)
        self.faults: Counter[str] = Counter()
        self.outages: list[Outage] = []

    async def reign(self, until: float) -> None:
        """Break and mend until the time is over."""
        members = [self._fleet.host, *self._fleet.workers, *self._fleet.gateways]
        while time.monotonic() < until:
            await asyncio.sleep(self._random.uniform(1, 4))
            member = self._random.choice(members)
            fault = self._random.choice(["kill", "kill", "stop", "freeze"])
            self.faults[f"{member.name.partition('-')[0]} {fault}"] += 1
            if fault == "freeze":
                member.freeze()
                await asyncio.sleep(self._random.choice([0.5, 2, 5, 9, 12]))
                member.thaw()
            else:
                with self._outage(member):
                    end = member.kill if fault == "kill" else functools.partial(member.stop, STOPS_WITHIN)
                    await asyncio.to_thread(end)
                    await asyncio.sleep(self._random.choice([0, 0.3, 1.5, 4]))
                    member.start()

    @contextlib.contextmanager
    def _outage(self, member: Process) -> Iterator[None]:
        if member not in self._fleet.gateways:
            yield
            return
        outage = Outage(self._fleet.gateways.index(member), time.monotonic())
        self.outages.append(outage)
        yield
        outage.until = time.monotonic()

    def excuses(self, gateway: int, since: float, until: float) -> bool:
        """Whether a connection to this gateway may have broken within a time because it was down."""
        return any(
            outage.gateway == gateway and outage.since <= until and since <= outage.until for outage in self.outages
        )


class Users:
    """Ask again and again, and note how it went."""

    def __init__(self, fleet: Fleet, chaos: Chaos, seed: int) -> None:
        self._fleet = fleet
        self._chaos = chaos
        self._random = random.Random(seed)
        self.ends: Counter[str] = Counter()
        self.violations: list[str] = []
        self.longest = 0.0

    async def ask_until(self, until: float) -> None:
        """One user's requests, one after the other."""
        while time.monotonic() < until:
            await self._ask()

    async def _ask(self) -> None:
        draw = self._random
        gateway = draw.randrange(len(self._fleet.gateways))
        schedule = Schedule(
            tokens=draw.choice([5, 100, 250, 400]),
            delay=draw.choice([0.005, 0.02]),
            first_delay=draw.choice([0, 0, 0, 0.5]),
            seed=draw.getrandbits(48),
        )
        client = Client(self._fleet.addresses[gateway], schedule, stream=draw.random() < 0.85)
        leaves_after = draw.random() * 2 if draw.random() < 0.1 else None
        began = time.monotonic()
        try:
            async with asyncio.timeout(leaves_after or PATIENCE):
                await client.run()
        except TimeoutError:
            self._note(client, "left" if leaves_after else "HANGS")
            return
        except AssertionError as error:
            self._note(client, f"MALFORMED {error}")
            return
        ended = time.monotonic()
        self.longest = max(self.longest, ended - began)
        self._note(client, self._end(client, self._chaos.excuses(gateway, began, ended)))
        if client.reply is None:
            await asyncio.sleep(0.5)  # the gateway is away

    def _end(self, client: Client, excused: bool) -> str:
        """What became of it: in capital letters what must not."""
        lines = client.reply.lines if client.reply else []
        text, said = "".join(line.get("content", "") for line in lines), reply_text(client.schedule)
        ends = [line for line in lines if line.keys() & {"done", "error", "cancelled"}]
        if not said.startswith(text):
            return "NOT EXACT"
        if not client.sent:
            return "no connection"  # its gateway is down, or not yet up again
        if client.broken is not None:
            return "broken with its gateway" if excused and not ends else "BROKEN"
        if ends != lines[-1:]:
            return "ENDS"
        if "error" in ends[0]:
            return str(ends[0]["error"]["code"])
        return "whole" if text == said else "SHORT"

    def _note(self, client: Client, end: str) -> None:
        self.ends[end] += 1
        if end[0].isupper():
            last = client.reply.lines[-2:] if client.reply else None
            self.violations.append(f"{end}: {client.address} {client.schedule} {client.broken!r} {last}")


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    patience = {"GATEWAY_DRAIN_TIMEOUT": "10", "WORKER_DRAIN_TIMEOUT": "10"}
    with Fleet(workers=3, settings=patience, start=False) as fleet:
        fleet.new_gateway()
        fleet.start()
        fleet.wait_until_ready()
        yield fleet


def test_streams_are_exact_or_end_once_whatever_dies(fleet: Fleet, figures: Say) -> None:
    seed = int(os.environ.get(GIVEN_SEED) or secrets.randbits(32))
    figures(f"{GIVEN_SEED}={seed}")
    before = {member: held(member).memory for member in fleet.processes[1:]}
    chaos = Chaos(fleet, seed)
    users = Users(fleet, chaos, seed + 1)

    async def live() -> None:
        until = time.monotonic() + LASTS
        async with asyncio.TaskGroup() as group:
            group.create_task(chaos.reign(until - CALM))
            for _ in range(STREAMS):
                group.create_task(users.ask_until(until))

    asyncio.run(live())
    figures(f"{users.ends.total()} requests: {dict(users.ends)}; the longest {users.longest:.0f} s")
    figures(f"{chaos.faults.total()} faults: {dict(chaos.faults)}")
    assert not users.violations, users.violations[:5]
    served = users.ends.total() - users.ends["no connection"]  # of which there are the more, the longer a start takes
    assert users.ends["whole"] > served / 2
    wait_until(lambda: not left_over(fleet), SETTLES, "nothing is left")
    wait_until(lambda: not model_connections(fleet), SETTLES, "the model's connections are closed")
    growth = {member.name: (held(member).memory - memory) / MIB for member, memory in before.items()}
    figures(", ".join(f"{name} {size:+.0f} MiB" for name, size in growth.items()))
    assert max(growth.values()) * MIB < GROWTH


def left_over(fleet: Fleet) -> list[object]:
    """What still runs or waits, by every gateway's own account and the model's."""
    left: list[object] = [fleet.backend.active()]
    for number in range(len(fleet.gateways)):
        status = fleet.status(number)
        if status is None:  # it was the last to be started, and does not listen yet
            left.append(fleet.gateways[number])
            continue
        left += [status["gateway"]["in_flight"], status["queue"]["waiting"]]
        left += [worker[count] for worker in status["workers"] for count in ("active", "in_flight")]
        left += [len(fleet.workers) - len(status["workers"])]
    return [count for count in left if count]


def model_connections(fleet: Fleet) -> int:
    """Connections that workers hold to the model's server."""
    found = (psutil.Process(worker.pid).net_connections("tcp") for worker in fleet.workers)
    return sum(bool(one.raddr) and one.raddr.port == fleet.backend.port for each in found for one in each)
