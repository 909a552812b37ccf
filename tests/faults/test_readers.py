"""Clients that read slowly, or not at all, cost themselves and nobody else."""

import asyncio
import contextlib
import dataclasses
import socket
import time
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.faults.crowd import Say, crowd, schedules
from tests.faults.standing import LONG, Standing, settle
from tests.harness.chat import PATH, body_of
from tests.harness.fleet import Fleet
from tests.harness.http import Address
from tests.harness.process import Process
from tests.harness.waiting import SOON, eventually
from tests.schedule import Schedule

MIB = 1024 * 1024
GROWTH = 5 * MIB
"""What one stalled reader may cost gateway, workers and host together."""
pytestmark = pytest.mark.timeout(300)
STALL_TIMEOUT = 60.0 if LONG else 6.0
PACE = 1024 if LONG else 4096
"""Bytes a second that a slow reader takes. Its system tells the sender in steps of 6 kB: some within every timeout."""
FILLING = 20.0
"""Seconds in which a model has filled the system's own buffers on the way to a client, so that the stall begins."""
LONG_REPLY = 300_000
"""Tokens: about 6 MB of text."""


@contextlib.asynccontextmanager
async def tight_reader(address: Address, schedule: Schedule) -> AsyncIterator[socket.socket]:
    """A client that has asked. Its own buffers hold next to nothing: that it does not read is felt at once."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1024)
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(sock, address)
        body = body_of(schedule)
        head = f"POST {PATH} HTTP/1.1\r\nhost: test\r\ncontent-length: {len(body)}\r\n\r\n"
        await loop.sock_sendall(sock, head.encode() + body)
        yield sock


@dataclasses.dataclass
class Strict:
    """A fleet, and a gateway of it that is strict with those who read nothing."""

    fleet: Fleet
    gateway: Process
    address: Address

    @property
    def has_cut_off(self) -> bool:
        return "code=client_stalled" in self.gateway.log()


@pytest.fixture(scope="module")
def strict(plain_standing: Standing) -> Iterator[Strict]:
    with plain_standing.whole() as fleet:
        gateway = fleet.new_gateway(GATEWAY_STALL_TIMEOUT=str(STALL_TIMEOUT))
        gateway.start()
        settle(lambda: gateway.log().count('"worker found"') == 2, "the gateway knows the workers")
        yield Strict(fleet, gateway, fleet.addresses[-1])


async def test_a_slow_reader_slows_only_itself(strict: Strict, figures: Say) -> None:
    alone = await at_full_speed(strict.address, "alone")
    # Large tokens, so that the system's own buffers are soon full and the gateway feels how slow the reader is.
    async with tight_reader(strict.address, Schedule(tag="slow", tokens=20_000, size=2_000)) as reader:
        reading = asyncio.create_task(read_slowly(reader, int(2.5 * STALL_TIMEOUT)))
        beside = await at_full_speed(strict.address, "beside")
        taken = await reading
        assert not strict.has_cut_off, f"cut off although it reads: {taken} bytes in {2.5 * STALL_TIMEOUT} s"
    figures(f"50 streams took {alone:.2f} s alone, {beside:.2f} s beside a slow reader, which read {taken} bytes")
    assert beside < 2 * alone + 5
    await eventually(strict.fleet.is_idle, SOON, "nothing runs")


async def test_a_reader_that_never_reads_costs_little_and_is_cut_off(strict: Strict, figures: Say) -> None:
    fleet = strict.fleet
    members = [strict.gateway, fleet.host, *fleet.workers]
    written = strict.gateway.log_size()
    async with crowd(strict.address, schedules("warm-up", 20, tokens=2_000)) as clients:
        pass
    clients.assert_complete()

    def memory() -> dict[str, int]:
        return {member.name: member.memory() for member in members}

    before = most = memory()
    schedule = Schedule(tag="stalled", tokens=LONG_REPLY)
    async with tight_reader(strict.address, schedule):
        began = time.monotonic()
        while "code=client_stalled" not in strict.gateway.log(written):
            most = max(most, await asyncio.to_thread(memory), key=lambda used: sum(used.values()))
            assert time.monotonic() - began < STALL_TIMEOUT + FILLING
            await asyncio.sleep(0.2)
        cut = time.monotonic() - began
        await eventually(fleet.is_idle, SOON, "the worker's slot is free")
        closed = await eventually(lambda: fleet.backend.request("stalled")["closed"], SOON, "the model stopped")
    figures(f"cut off after {cut:.1f} s; the model's connection closed {closed - began - cut:+.2f} s from then")
    growth = {name: most[name] - before[name] for name in before}
    each = ", ".join(f"{name} {size / MIB:+.2f}" for name, size in growth.items())
    figures(f"all together grew by {sum(growth.values()) / MIB:.2f} MiB: {each}")
    assert cut >= STALL_TIMEOUT
    assert sum(growth.values()) < GROWTH


async def at_full_speed(address: Address, name: str) -> float:
    """Seconds that 50 streams take."""
    began = time.monotonic()
    async with crowd(address, schedules(name, 50, tokens=400)) as clients:
        pass
    clients.assert_complete()
    return time.monotonic() - began


async def read_slowly(reader: socket.socket, seconds: int) -> int:
    """Bytes that were there to be read within that time."""
    taken = 0
    for _ in range(4 * seconds):
        piece = await asyncio.get_running_loop().sock_recv(reader, PACE // 4)
        taken += len(piece)
        await asyncio.sleep(0.25)
    return taken
