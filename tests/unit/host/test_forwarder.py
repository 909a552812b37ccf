"""What connects to the host's port is passed on to gRPC's server, within bounds until it has authenticated."""

import asyncio
import contextlib
import random
import socket
import struct
from collections.abc import AsyncIterator
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.settings import HostPort
from host import forwarder, listener
from host.forwarder import LOOPBACK, Allowance, Forwarder
from tests.harness.ports import free_port
from tests.harness.waiting import SOON, eventually, until

pytestmark = pytest.mark.both_loops

BIG = random.Random(1).randbytes(8 * 1024 * 1024)
"""Far more than sockets and transports keep on the way."""

Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Path:
    """A forwarder, and a server behind it that the test speaks for."""

    def __init__(self) -> None:
        self.address = HostPort(LOOPBACK, free_port())
        self.forwarder = Forwarder(self.address)
        self.at_server: asyncio.Queue[Ends] = asyncio.Queue()
        self._writers: list[asyncio.StreamWriter] = []

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        await self.at_server.put((reader, writer))

    async def __aenter__(self) -> "Path":
        self._server = await asyncio.start_server(self._serve, LOOPBACK, 0)
        self.forwarder.server_port = self._server.sockets[0].getsockname()[1]
        self._serving = asyncio.create_task(self.forwarder.listener.serve())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._serving.cancel()
        await asyncio.gather(self._serving, return_exceptions=True)
        self._server.close()
        for writer in self._writers:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
        assert not self.forwarder._clients
        assert not self.forwarder.listener._pending

    async def open(self, first: bytes = b"") -> Ends:
        reader, writer = await asyncio.open_connection(*self.address)
        self._writers.append(writer)
        writer.write(first)
        return reader, writer

    async def connect(self, first: bytes = b"PRI * HTTP/2.0", authenticated: bool = True) -> tuple[Ends, Ends]:
        """A client, and the server's end of its connection."""
        client = await self.open(first)
        server = await asyncio.wait_for(self.at_server.get(), SOON)
        assert await server[0].readexactly(len(first)) == first
        if authenticated:
            self.forwarder.authenticated(peer_of(server))
        return client, server


@pytest.fixture
async def path() -> AsyncIterator[Path]:
    async with Path() as path:
        yield path


def peer_of(server: Ends) -> str:
    """What gRPC takes for the peer of a connection."""
    return "ipv4:{}:{}".format(*server[1].get_extra_info("peername"))


async def is_closed(reader: asyncio.StreamReader) -> bool:
    """Whether the other side ends the connection, in whatever way, before it sends anything."""
    try:
        return not await asyncio.wait_for(reader.read(1), 5)
    except ConnectionError:
        return True


def reset(writer: asyncio.StreamWriter) -> None:
    """Leave with an RST."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def paused(end: Ends) -> asyncio.ReadTransport:
    """Read nothing at this end."""
    transport = cast("asyncio.ReadTransport", end[1].transport)
    transport.pause_reading()
    return transport


# ---------------------------------------------------------------- both ways


@pytest.mark.parametrize("first", [b"P", b"\x16\x03\x01", bytes(200_000)])
async def test_all_is_passed_on_from_the_first_byte(path: Path, first: bytes) -> None:
    client, server = await path.connect(first)
    client[1].write(b"end")
    assert await server[0].readexactly(3) == b"end"
    server[1].write(b"answer")
    assert await client[0].readexactly(6) == b"answer"


async def test_all_bytes_pass_both_ways_at_once(path: Path) -> None:
    client, server = await path.connect()

    async def send(writer: asyncio.StreamWriter, data: bytes) -> None:
        writer.write(data)
        await writer.drain()

    back = BIG[::-1]
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        up = group.create_task(server[0].readexactly(len(BIG)))
        down = group.create_task(client[0].readexactly(len(BIG)))
        group.create_task(send(client[1], BIG))
        group.create_task(send(server[1], back))
    assert up.result() == BIG
    assert down.result() == back


@pytest.mark.parametrize("inward", [True, False], ids=["in", "out"])
async def test_one_that_does_not_read_holds_up_the_other(path: Path, inward: bool) -> None:
    client, server = await path.connect()
    (_, writer), (reader, _) = (client, server) if inward else (server, client)
    sent = 0

    async def send() -> None:
        nonlocal sent
        for begin in range(0, 8 * len(BIG), 65536):
            writer.write(BIG[begin % len(BIG) :][:65536])
            await writer.drain()
            sent = begin + 65536

    sending = asyncio.create_task(send())
    await eventually(lambda: sent, what="the first piece is sent")
    with pytest.raises(TimeoutError):  # 64 MiB find room nowhere
        await asyncio.wait_for(asyncio.shield(sending), 0.2)
    async with asyncio.timeout(30):
        for begin in range(0, 8 * len(BIG), len(BIG)):
            assert await reader.readexactly(len(BIG)) == BIG, begin
        await sending


# ---------------------------------------------------------------- before it has authenticated


async def test_a_silent_client_does_not_reach_grpc(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "AUTHENTICATE_WITHIN", 0.1)
    reader, _ = await path.open()
    assert await is_closed(reader)
    assert path.at_server.empty()


async def test_a_client_that_does_not_authenticate_is_dropped_whatever_it_sends(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "AUTHENTICATE_WITHIN", 0.3)
    begun = asyncio.get_running_loop().time()
    client = await path.open(b"PRI")

    async def go_on(writer: asyncio.StreamWriter, said: bytes) -> None:
        while True:
            writer.write(said)
            await asyncio.sleep(0.02)

    async def answer() -> None:
        await go_on((await path.at_server.get())[1], b"pong")

    going_on = [asyncio.create_task(go_on(client[1], b"ping")), asyncio.create_task(answer())]
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(SOON):
            assert set(await client[0].read(-1)) <= set(b"pong")
    assert asyncio.get_running_loop().time() - begun > 0.25
    for task in going_on:
        task.cancel()
    await asyncio.gather(*going_on, return_exceptions=True)


async def test_what_is_sent_before_authenticating_is_bounded_and_passes_afterwards(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(forwarder, "BURST", 65536)
    monkeypatch.setattr(forwarder, "RATE", 65536)
    async with Path() as path:
        client, server = await path.connect(authenticated=False)
        client[1].write(BIG)
        read = b""
        with contextlib.suppress(TimeoutError):
            while True:
                read += await asyncio.wait_for(server[0].read(65536), 0.3)
        assert BIG.startswith(read)
        assert len(read) < forwarder.FREE_BYTES + 4 * 65536
        member, within = await path.connect(authenticated=False)
        member[1].write(bytes(forwarder.FREE_BYTES - 100))
        await asyncio.wait_for(within[0].readexactly(forwarder.FREE_BYTES - 100), 5)  # who sends little need not wait
        path.forwarder.authenticated(peer_of(server))
        async with asyncio.timeout(30):
            assert await server[0].readexactly(len(BIG) - len(read)) == BIG[len(read) :]


async def test_a_client_that_would_wait_too_long_for_its_share_is_dropped(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(forwarder, "BURST", 0)
    monkeypatch.setattr(forwarder, "RATE", 1)
    async with Path() as path:
        client, _ = await path.connect(authenticated=False)
        client[1].write(bytes(forwarder.FREE_BYTES + 100))
        assert await is_closed(client[0])
    assert "connections send too much before they authenticate" in capsys.readouterr().out


async def test_connections_are_passed_on_at_a_bounded_rate_and_those_that_have_left_not_at_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened: list[asyncio.StreamWriter] = []
    opening = forwarder._open

    async def noted(sock: socket.socket) -> Ends:
        ends = await opening(sock)
        opened.append(ends[1])
        return ends

    monkeypatch.setattr(forwarder, "OPEN_BURST", 1)
    monkeypatch.setattr(forwarder, "OPEN_RATE", 1)
    monkeypatch.setattr(forwarder, "_open", noted)
    async with Path() as path:
        begun = asyncio.get_running_loop().time()
        await path.connect()
        async with path.forwarder._turn:  # none has its turn before it has left
            leaving = [await path.open(b"PRI") for _ in range(20)]
            for number, (_, writer) in enumerate(leaving):
                if number % 2:
                    reset(writer)
                else:
                    writer.close()
            await until(lambda: len(opened) == 21 and all(writer.is_closing() for writer in opened[1:]))
        await path.connect()
        took = asyncio.get_running_loop().time() - begun
        assert 0.9 < took < 10, "its turn comes, and at once when the others have left"
        assert path.at_server.empty()


async def test_the_log_tells_when_grpc_closes_a_connection_that_has_not_authenticated(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As it does when TLS fails. Health checks and members that leave end on the client's side."""
    client, server = await path.connect(authenticated=False)
    client[1].close()
    assert await is_closed(server[0])
    await eventually(lambda: not path.forwarder._clients, what="its end")
    client, server = await path.connect()
    server[1].close()
    assert await is_closed(client[0])
    assert "refused" not in capsys.readouterr().out
    for _ in range(2):
        client, server = await path.connect(authenticated=False)
        server[1].close()
        assert await is_closed(client[0])
    assert capsys.readouterr().out.count("refused a connection") == 1


# ---------------------------------------------------------------- ends


async def test_the_rest_arrives_before_the_end(path: Path) -> None:
    client, server = await path.connect()
    client[1].write(BIG)
    client[1].close()
    assert await asyncio.wait_for(server[0].read(-1), 30) == BIG
    client, server = await path.connect()
    server[1].write(BIG)
    server[1].close()
    assert await asyncio.wait_for(client[0].read(-1), 30) == BIG


async def test_a_reset_on_one_side_ends_the_other(path: Path) -> None:
    client, server = await path.connect()
    reset(client[1])
    assert await is_closed(server[0])
    client, server = await path.connect()
    reset(server[1])
    assert await is_closed(client[0])


@pytest.mark.parametrize("ends", [True, False], ids=["gRPC has ended", "gRPC goes on"])
@pytest.mark.parametrize("size", [len(BIG), 1], ids=["full", "empty"])
async def test_a_client_that_reads_nothing_is_dropped_after_a_while(
    path: Path, monkeypatch: pytest.MonkeyPatch, size: int, ends: bool
) -> None:
    monkeypatch.setattr(forwarder, "LINGER", 0.1)
    client, server = await path.connect()
    transport = paused(client)
    server[1].write(BIG[:size])
    if ends:
        server[1].close()
    if ends or size > 1:
        await eventually(lambda: not path.forwarder._clients, what="the end inside")
        transport.resume_reading()
        with contextlib.suppress(ConnectionError):
            assert BIG.startswith(await asyncio.wait_for(client[0].read(-1), 5))
    else:
        transport.resume_reading()
        assert await client[0].readexactly(1) == BIG[:1]


async def test_a_client_that_reads_some_now_and_then_stays(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forwarder, "LINGER", 3.0)
    client, server = await path.connect()
    (inside,) = path.forwarder._clients.values()
    inside.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)  # else half of it would soon be on its way
    client[1].get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    loop = asyncio.get_running_loop()
    begun = loop.time()
    server[1].write(BIG)
    got = b""
    async with asyncio.timeout(60):
        while len(got) < len(BIG):
            piece = await client[0].read(65536)
            assert piece, "it was dropped"
            got += piece
            due = begun + 1.5 * forwarder.LINGER * len(got) / len(BIG)
            await asyncio.sleep(max(0.0, due - loop.time()))
    assert got == BIG


async def test_a_client_can_be_dropped_while_neither_side_reads(path: Path) -> None:
    client, server = await path.connect()
    paused(client)
    paused(server)
    client[1].write(BIG)
    server[1].write(BIG)
    peer = peer_of(server)
    await asyncio.sleep(0.1)  # all that fits is on its way
    path.forwarder.drop(peer)
    await eventually(lambda: not path.forwarder._clients, what="its end")


async def test_a_client_is_closed_when_grpc_is_gone(path: Path) -> None:
    path.forwarder.server_port = free_port()
    reader, _ = await path.open(b"PRI")
    assert await is_closed(reader)


async def test_clients_that_leave_at_once_leave_nothing_behind(path: Path) -> None:
    for _ in range(20):
        _, writer = await path.open(b"PRI")
        reset(writer)
    _, last = await path.open(b"PRI")  # they are accepted in turn, so all the others have been when it is there
    address = "ipv4:{}:{}".format(*last.get_extra_info("sockname"))
    await until(lambda: any(client.address == address for client in path.forwarder._clients.values()))
    last.close()
    await eventually(
        lambda: not path.forwarder._clients and not path.forwarder.listener._clients, what="the end of all"
    )


# ---------------------------------------------------------------- addresses


async def test_the_address_of_a_client_is_known_while_it_is_there(path: Path) -> None:
    client, server = await path.connect()
    peer = peer_of(server)
    assert path.forwarder.address(peer) == "ipv4:{}:{}".format(*client[1].get_extra_info("sockname"))
    client[1].close()
    await eventually(lambda: path.forwarder.address(peer) == peer, what="that it is forgotten")


@pytest.mark.parametrize("unknown", ["ipv4:127.0.0.1:1", "unix:", "", "ipv6:%5B::1%5D:99999"])
async def test_peers_that_came_another_way_keep_their_address(path: Path, unknown: str) -> None:
    assert path.forwarder.address(unknown) == unknown
    path.forwarder.authenticated(unknown)
    path.forwarder.drop(unknown)


# ---------------------------------------------------------------- the allowance


def test_an_allowance_passes_a_burst_and_then_its_rate() -> None:
    allowance = Allowance(100, 10, 0.0)
    assert allowance.wait(100, 0.0) == 0
    allowance.spend(100)
    assert allowance.wait(20, 0.0) == 2
    allowance.spend(20)
    assert allowance.wait(20, 1.0) == 3
    assert allowance.wait(100, 1000.0) == 0, "what was not used is kept up to the burst"
    assert allowance.wait(101, 1000.0) > 0


@given(st.lists(st.tuples(st.integers(0, 50), st.floats(0, 5))))
def test_an_allowance_never_passes_more_than_burst_and_rate(steps: list[tuple[int, float]]) -> None:
    allowance, now, passed = Allowance(100, 10, 0.0), 0.0, 0
    for size, later in steps:
        now += later
        if allowance.wait(size, now) == 0:
            allowance.spend(size)
            passed += size
        assert passed <= 100 + 10 * now + 1e-6
