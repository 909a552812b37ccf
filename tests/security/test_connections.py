"""Connections whose clients do not do their part: each ends in time, holds little, and disturbs no other."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import psutil
import pytest

from tests.harness.chat import JSON, PATH, body_of
from tests.harness.fleet import START, Fleet
from tests.harness.http import Address, Connection
from tests.harness.process import Process
from tests.harness.waiting import eventually, wait_until
from tests.schedule import Schedule

HEALTH = b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n"
NOWHERE = b"POST /nowhere HTTP/1.1\r\nhost: a\r\n"
CHAT = b"POST /chat/completions HTTP/1.1\r\nhost: a\r\n"
LENGTH = b"content-length: 100000\r\n\r\n"
CHUNKED = b"transfer-encoding: chunked\r\n\r\n"
TIMEOUT = 3
"""Seconds of each timeout that has a setting."""
LINGER = 5
KEEP_ALIVE = 75
ROOM = 10
"""Seconds that a busy machine may add."""
MIB = 2**20


@dataclass(frozen=True)
class Kind:
    """What a client sends at first, how its answer begins, what it sends every 0.7 s, and when it must be closed."""

    sends: bytes
    answer: bytes = b""
    drips: bytes = b""
    within: float = 2 * TIMEOUT + LINGER


KINDS = {
    "nothing": Kind(b""),
    "half of the headers": Kind(HEALTH[:-4]),
    "half of the headers, then drops": Kind(HEALTH[:-4] + b"\r\nx: ", drips=b"a"),
    "empty lines": Kind(b"\r\n", drips=b"\r\n"),
    "half of a body": Kind(CHAT + LENGTH + b"{", b"HTTP/1.1 408 "),
    "a body in drops": Kind(CHAT + LENGTH + b"{", b"HTTP/1.1 408 ", b" "),
    "a chunked body in drops": Kind(CHAT + CHUNKED, b"HTTP/1.1 408 ", b"1\r\na\r\n"),
    "a refused body that does not come": Kind(NOWHERE + LENGTH, b"HTTP/1.1 404 "),
    "a refused body in drops": Kind(NOWHERE + LENGTH, b"HTTP/1.1 404 ", b"a"),
    "a refused body in drops, on a last request": Kind(
        NOWHERE + b"connection: close\r\n" + LENGTH, b"HTTP/1.1 404 ", b"a"
    ),
    "a refused body's trailer": Kind(NOWHERE + CHUNKED + b"0\r\nx: a", b"HTTP/1.1 404 ", b"a"),
    "a body's trailer": Kind(CHAT + CHUNKED + b"2\r\n{}\r\n0\r\nx: a", b"HTTP/1.1 408 ", b"a"),
    "a chunk extension": Kind(CHAT + CHUNKED + b"2;x=", b"HTTP/1.1 408 ", b"a"),
    "no request, in drops": Kind(b"\x00\r\n\r\n", b"HTTP/1.1 400 ", b"a"),
    "a tunnel": Kind(b"CONNECT a:443 HTTP/1.1\r\nhost: a\r\n\r\n", b"HTTP/1.1 405 ", b"a"),
    "another request before the answer": Kind(HEALTH + HEALTH, b"HTTP/1.1 200 ", b"a"),
}
IDLE = {
    "a request": Kind(HEALTH, b"HTTP/1.1 200 ", within=KEEP_ALIVE),
    "a request, then empty lines": Kind(HEALTH, b"HTTP/1.1 200 ", b"\r\n", within=KEEP_ALIVE),
    "an upgrade, then empty lines": Kind(
        HEALTH[:-2] + b"connection: upgrade\r\nupgrade: x\r\n\r\n", b"HTTP/1.1 200 ", b"\r\n", within=KEEP_ALIVE
    ),
}


@pytest.fixture(scope="module")
def gateway() -> Iterator[tuple[Process, Address]]:
    """A gateway that has little patience and no fleet."""
    names = ("HEADER_TIMEOUT", "BODY_TIMEOUT", "STALL_TIMEOUT")
    with Fleet(workers=0, settings={f"GATEWAY_{name}": str(TIMEOUT) for name in names}, start=False) as fleet:
        fleet.gateway.start()
        wait_until(lambda: fleet.readiness()[0], START, "the gateway listens")
        yield fleet.gateway, fleet.address


def connections(gateway: tuple[Process, Address]) -> int:
    """How many sockets of clients it has open, in whatever state."""
    process, address = gateway
    sockets = psutil.Process(process.pid).net_connections("tcp")
    return sum(bool(socket.raddr) and tuple(socket.laddr) == address for socket in sockets)


async def outlast(address: Address, kind: Kind) -> tuple[bytes, float]:
    """All that comes back, and the seconds until the server has closed the connection."""
    reader, writer = await asyncio.open_connection(*address)
    began = time.monotonic()
    writer.write(kind.sends)

    async def drip() -> None:
        while True:
            await asyncio.sleep(0.7)
            writer.write(kind.drips)

    answer = b""
    dripping = asyncio.create_task(drip())
    # The connection has ended when nothing more can be sent: only half of it is closed when the answer has come.
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(kind.within + ROOM):
            while piece := await reader.read(65536):  # by pieces: what has come must outlive a reset
                answer += piece
            while kind.drips and not writer.transport.is_closing():
                await asyncio.sleep(0.05)
    taken = time.monotonic() - began
    dripping.cancel()
    writer.transport.abort()
    return answer, taken


async def outlast_all(address: Address, kinds: dict[str, Kind]) -> None:
    ends = await asyncio.gather(*(outlast(address, kind) for kind in kinds.values()))
    for (name, kind), (answer, _) in zip(kinds.items(), ends, strict=True):
        assert answer.startswith(kind.answer), (name, answer)
        assert answer.count(b"HTTP/1.1 ") == bool(kind.answer), (name, answer)


async def test_every_connection_is_closed_in_time(gateway: tuple[Process, Address]) -> None:
    process, address = gateway
    descriptors = psutil.Process(process.pid).num_fds()
    await outlast_all(address, KINDS)
    await eventually(
        lambda: psutil.Process(process.pid).num_fds() <= descriptors, LINGER + ROOM, "no connection is left"
    )


@pytest.mark.slow
async def test_every_idle_connection_is_closed_in_time(gateway: tuple[Process, Address]) -> None:
    await outlast_all(gateway[1], IDLE)


UNREAD = b"GET /docs-static/swagger-ui-bundle.js HTTP/1.1\r\nhost: a\r\nconnection: %b\r\n\r\n"


@pytest.mark.parametrize("connection", [b"keep-alive", b"close"])
async def test_a_client_that_reads_nothing_of_any_answer_is_dropped(
    gateway: tuple[Process, Address], connection: bytes
) -> None:
    await eventually(lambda: connections(gateway) == 0, LINGER + ROOM, "those of other tests have ended")
    async with Connection(gateway[1], limit=1024, receive_buffer=4096) as client:
        client._writer.write(UNREAD % connection)
        await eventually(lambda: connections(gateway) == 1, ROOM, "it is connected")
        await eventually(lambda: connections(gateway) == 0, 2 * LINGER + ROOM, "it is not")
        client.reset()


FLOODS = {
    "a trailer": (NOWHERE + CHUNKED + b"0\r\nx: ", b"a"),
    "a trailer before the answer": (CHAT + CHUNKED + b"0\r\nx: ", b"a"),
    "trailers": (NOWHERE + CHUNKED + b"0\r\n", b"x: a\r\n"),
    "a chunk extension": (NOWHERE + CHUNKED + b"1;x=", b"a"),
    "chunks of a byte": (NOWHERE + CHUNKED, b"1\r\na\r\n"),
    "empty lines": (b"", b"\r\n"),
    "empty lines after a request": (HEALTH, b"\r\n"),
}


@pytest.mark.parametrize(("start", "more"), FLOODS.values(), ids=FLOODS.keys())
async def test_what_is_no_payload_is_not_read_without_end(
    gateway: tuple[Process, Address], start: bytes, more: bytes, figures: Callable[[str], None]
) -> None:
    """It is refused within a few reads, and costs neither memory nor CPU."""
    process, address = gateway
    memory, cpu = process.memory(), process.cpu()
    _, writer = await asyncio.open_connection(*address)
    writer.write(start)
    piece = more * (MIB // 4 // len(more))
    sent = 0
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(LINGER + ROOM):
            while not writer.transport.is_closing():
                writer.write(piece)
                await writer.drain()
                sent += len(piece)
    writer.transport.abort()
    figures(f"{sent / MIB:.0f} MiB, {process.cpu() - cpu:.2f} s of CPU")
    assert process.memory() - memory < 16 * MIB
    async with asyncio.timeout(ROOM), Connection(address) as other:
        assert (await other.request("GET", "/healthz")).status == 200


@pytest.mark.parametrize("connection", ["keep-alive", "close"])
async def test_a_client_that_sends_on_reads_its_early_answer(gateway: tuple[Process, Address], connection: str) -> None:
    async with asyncio.timeout(3 * ROOM), Connection(gateway[1]) as client:
        body = b"a" * 16 * MIB
        response = await client.request("POST", "/nowhere", body, {"connection": connection})
        assert response.status == 404
        assert (await response.json())["error"]["code"] == "not_found"
        await client._writer.drain()
        if connection == "keep-alive":
            assert (await client.request("GET", "/healthz")).status == 200
        else:
            assert await client.at_end()


@pytest.mark.parametrize(
    "behind", [b"", HEALTH, b"\x00garbage\r\n\r\n", b"\r\n"], ids=["", "request", "garbage", "line"]
)
@pytest.mark.parametrize("reset", [False, True], ids=["closes", "resets"])
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "object"])
async def test_a_client_that_leaves_ends_its_model_request(
    fleet: Fleet, stream: bool, reset: bool, behind: bytes
) -> None:
    """Whatever it has sent behind its own request."""
    written = fleet.gateway.log_size()
    schedule = Schedule(tokens=2000, delay=0.1)
    async with asyncio.timeout(60):
        async with Connection(fleet.address) as client:
            client.send("POST", PATH, body_of(schedule, stream=stream), JSON)
            await eventually(lambda: fleet.backend.active() == 1)
            client._writer.write(behind)
            await asyncio.sleep(0.05)  # so that it arrives before the end does
            if reset:
                client.reset()
        await eventually(lambda: fleet.backend.active() == 0)
    assert "level=error" not in fleet.gateway.log(written)
