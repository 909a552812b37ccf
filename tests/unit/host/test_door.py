"""The host's one port: who begins as a relay is taken for one, everybody else is passed on as they are."""

import asyncio
import contextlib
import errno
import random
import socket
import struct
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, cast

import pytest

from fleet.bus.relay import MAGIC
from fleet.settings import HostPort
from host import door
from host.door import LOOPBACK, Door
from host.pending import Allowance, Pending
from tests.harness.ports import free_port
from tests.harness.waiting import eventually

pytestmark = pytest.mark.both_loops

PATIENCE = 0.3
BIG = random.Random(1).randbytes(8 * 1024 * 1024)
"""Far more than sockets and transports keep on the way."""

Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Taken(asyncio.Protocol):
    """Stands for the relay: notes what it gets."""

    def __init__(self, settled: Callable[[], None] = lambda: None) -> None:
        self.settled = settled
        self.data = b""
        self.lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.data += data

    def connection_lost(self, error: Exception | None) -> None:
        self.lost = True
        self.settled()


class House:
    """A door, with a server behind it that the test speaks for, and those who went to the relay."""

    def __init__(self) -> None:
        self.address = HostPort(LOOPBACK, free_port())
        self.relays: list[Taken] = []
        self.door = Door(self.address, self._relay, PATIENCE)
        self.inside: asyncio.Queue[Ends] = asyncio.Queue()
        self._guests: list[asyncio.StreamWriter] = []
        self._server: asyncio.Server

    def _relay(self, settled: Callable[[], None]) -> Taken:
        self.relays.append(Taken(settled))
        return self.relays[-1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._guests.append(writer)
        await self.inside.put((reader, writer))

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._serve, LOOPBACK, 0)
        self._serving = asyncio.create_task(self.door.serve(self._server.sockets[0].getsockname()[1]))

    async def close(self) -> None:
        self.door.close()
        await self._serving
        self._server.close()
        for writer in self._guests:
            if not writer.is_closing():
                writer.transport.abort()
        for relay in self.relays:
            relay.transport.abort()
        for writer in self._guests:
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
        await eventually(lambda: not self.door._guests, what="the end of every pipe")
        assert not self.door._pending

    async def enter(self, first: bytes = b"") -> Ends:
        reader, writer = await asyncio.open_connection(*self.address)
        self._guests.append(writer)
        writer.write(first)
        return reader, writer

    async def connect(self, first: bytes = b"PRI * HTTP/2.0", authenticated: bool = True) -> tuple[Ends, Ends]:
        """A guest that is not for the relay, and the other end of its pipe."""
        guest = await self.enter(first)
        inner = await asyncio.wait_for(self.inside.get(), 5)
        assert await inner[0].readexactly(len(first)) == first
        if authenticated:
            self.door.authenticated(peer_of(inner))
        return guest, inner


@pytest.fixture
async def house() -> AsyncIterator[House]:
    house = House()
    await house.open()
    yield house
    await house.close()


def peer_of(inner: Ends) -> str:
    """What gRPC takes for the peer of a connection."""
    return "ipv4:{}:{}".format(*inner[1].get_extra_info("peername"))


async def lost(reader: asyncio.StreamReader) -> bool:
    """Whether the other side ends the connection, in whatever way, before it says anything."""
    try:
        return not await asyncio.wait_for(reader.read(1), 5)
    except ConnectionError:
        return True


def bounded(connect: Callable[[door._Guest], Coroutine[Any, Any, door._Inner]], burst: int = len(BIG)) -> door._Guest:
    allowance = Allowance(burst, 1, 0)
    return door._Guest(Taken, connect, 60, Pending(8), allowance, lambda address, reason: None)


def reset(writer: asyncio.StreamWriter) -> None:
    """Leave with an RST."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


# ---------------------------------------------------------------- which way


@pytest.mark.parametrize("pieces", [(MAGIC,), (MAGIC + b"more",), (MAGIC[:1], MAGIC[1:9], MAGIC[9:] + b"mo", b"re")])
async def test_what_begins_as_a_relay_goes_to_the_relay(house: House, pieces: tuple[bytes, ...]) -> None:
    reader, writer = await house.enter()
    for piece in pieces:
        writer.write(piece)
        await asyncio.sleep(0.01)  # so that they arrive as pieces
    expected = b"".join(pieces).removeprefix(MAGIC)
    await eventually(lambda: house.relays and house.relays[0].data == expected, what="what came after the magic")
    house.relays[0].transport.write(b"hello")
    assert await reader.readexactly(5) == b"hello"
    assert house.inside.empty()
    with pytest.raises(TimeoutError):  # the door's patience is not the relay's
        await asyncio.wait_for(reader.read(1), 2 * PATIENCE)
    writer.close()
    await eventually(lambda: house.relays[0].lost, what="the end")


@pytest.mark.parametrize("first", [b"P", b"\x16\x03\x01", MAGIC[:-1] + b"\r", b"chat", MAGIC[1:], bytes(200_000)])
async def test_everything_else_is_passed_on_from_its_first_byte(house: House, first: bytes) -> None:
    reader, writer = await house.enter(first[:3])
    await asyncio.sleep(0.01)  # so that they arrive as pieces
    writer.write(first[3:] + b"end")
    inner_reader, inner_writer = await asyncio.wait_for(house.inside.get(), 5)
    assert await inner_reader.readexactly(len(first) + 3) == first + b"end"
    inner_writer.write(b"answer")
    assert await reader.readexactly(6) == b"answer"
    assert not house.relays


@pytest.mark.parametrize("first", [b"", b"c", MAGIC[:-1]])
async def test_who_does_not_say_what_they_want_is_dropped(house: House, first: bytes) -> None:
    begun = asyncio.get_running_loop().time()
    reader, _ = await house.enter(first)
    assert await lost(reader)
    assert asyncio.get_running_loop().time() - begun > 0.9 * PATIENCE
    assert house.inside.empty()
    assert not house.relays


async def test_who_has_said_it_may_be_silent(house: House) -> None:
    (reader, _), _ = await house.connect()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.read(1), 2 * PATIENCE)


# ---------------------------------------------------------------- the pipe


async def test_all_bytes_pass_both_ways_at_once(house: House) -> None:
    guest, inner = await house.connect()

    async def send(writer: asyncio.StreamWriter, data: bytes) -> None:
        writer.write(data)
        await writer.drain()

    back = BIG[::-1]
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        up = group.create_task(inner[0].readexactly(len(BIG)))
        down = group.create_task(guest[0].readexactly(len(BIG)))
        group.create_task(send(guest[1], BIG))
        group.create_task(send(inner[1], back))
    assert up.result() == BIG
    assert down.result() == back


@pytest.mark.parametrize("inward", [True, False], ids=["in", "out"])
async def test_who_does_not_read_holds_up_who_writes(house: House, inward: bool) -> None:
    guest, inner = await house.connect()
    (_, writer), (reader, _) = (guest, inner) if inward else (inner, guest)
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
        await asyncio.wait_for(asyncio.shield(sending), 1)
    async with asyncio.timeout(30):
        for begin in range(0, 8 * len(BIG), len(BIG)):
            assert await reader.readexactly(len(BIG)) == BIG, begin
        await sending


async def test_a_first_piece_above_what_is_buffered_does_not_undo_the_back_pressure(house: House) -> None:
    """The inner connection may ask for a pause while the first bytes are handed to it."""
    guest = bounded(lambda guest: connected(guest))
    outside, inside = Line(), Line()

    async def connected(guest: door._Guest) -> door._Inner:
        inner = door._Inner(guest, {})
        inner.connection_made(inside)
        inside.on_write = inner.pause_writing
        return inner

    guest.connection_made(outside)
    guest.data_received(BIG[:200_000])
    await eventually(lambda: inside.written == BIG[:200_000], what="the first piece")
    assert not outside.reads


class Line(asyncio.Transport):
    """A transport that goes nowhere."""

    def __init__(self) -> None:
        super().__init__({"sockname": ("127.0.0.1", 1), "peername": ("127.0.0.1", 2), "socket": socket.socket()})
        self.get_extra_info("socket").close()
        self.written = b""
        self.reads = True
        self.closed = self.aborted = False
        self.on_write: Callable[[], None] = lambda: None

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.is_closing(), "uvloop raises for this"
        self.written += data
        self.on_write()

    def is_closing(self) -> bool:
        return self.closed or self.aborted

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = True


# ---------------------------------------------------------------- before it has authenticated


async def test_a_connection_that_does_not_authenticate_is_dropped_whatever_it_sends(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "AUTHENTICATE_WITHIN", 0.3)
    begun = asyncio.get_running_loop().time()
    guest, inner = await house.connect(authenticated=False)

    async def go_on() -> None:
        while True:
            guest[1].write(b"ping")
            inner[1].write(b"pong")
            await asyncio.sleep(0.02)

    going_on = asyncio.create_task(go_on())
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(5):
            assert set(await guest[0].read(-1)) <= set(b"pong")
    assert asyncio.get_running_loop().time() - begun > 0.25
    going_on.cancel()
    assert not house.door._pending


async def test_a_connection_that_authenticated_stays(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "AUTHENTICATE_WITHIN", 0.2)
    (reader, _), _ = await house.connect()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.read(1), 0.5)


async def test_what_is_sent_before_authenticating_is_bounded_and_passes_afterwards(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(door, "BURST", 65536)
    monkeypatch.setattr(door, "RATE", 65536)
    house = House()
    await house.open()
    guest, inner = await house.connect(authenticated=False)
    guest[1].write(BIG)
    read = b""
    with contextlib.suppress(TimeoutError):
        while True:
            read += await asyncio.wait_for(inner[0].read(65536), 0.3)
    assert BIG.startswith(read)
    assert len(read) < door.FREE_BYTES + 65536 + 1024 * 1024, "a piece passes whole or not at all"
    member, within = await house.connect(authenticated=False)
    member[1].write(bytes(door.FREE_BYTES - 100))
    await asyncio.wait_for(within[0].readexactly(door.FREE_BYTES - 100), 5)  # who sends little need not wait
    house.door.authenticated(peer_of(inner))
    async with asyncio.timeout(30):
        assert await inner[0].readexactly(len(BIG) - len(read)) == BIG[len(read) :]
    await house.close()


async def test_a_connection_that_would_wait_too_long_for_its_share_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "BURST", 0)
    monkeypatch.setattr(door, "RATE", 1)
    house = House()
    await house.open()
    guest, _ = await house.connect(authenticated=False)
    guest[1].write(bytes(door.FREE_BYTES + 100))
    assert await lost(guest[0])
    await house.close()


async def test_authenticating_passes_what_waited_and_keeps_the_back_pressure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "FREE_BYTES", 5)
    outside, inside = Line(), Line()

    def reads() -> bool:
        return outside.reads

    inners: list[door._Inner] = []

    async def connected(guest: door._Guest) -> door._Inner:
        inners.append(door._Inner(guest, {}))
        inners[0].connection_made(inside)
        return inners[0]

    guest = bounded(connected, burst=0)
    guest.connection_made(outside)
    guest.data_received(b"0123")
    await eventually(lambda: inside.written, what="the first piece")
    assert reads()
    guest.data_received(b"456789")
    assert not reads()
    (inner,) = inners
    inner.pause_writing()
    inner.resume_writing()
    assert not reads(), "it waits for its share"
    assert inside.written == b"0123"
    inner.pause_writing()
    guest.settle()
    assert not reads(), "the other end takes nothing"
    assert inside.written == b"0123456789"
    inner.resume_writing()
    assert reads()
    guest.connection_lost(None)


async def test_connections_are_passed_on_at_a_bounded_rate_and_those_that_have_left_not_at_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(door, "OPEN_BURST", 1)
    monkeypatch.setattr(door, "OPEN_RATE", 4)
    house = House()
    await house.open()
    begun = asyncio.get_running_loop().time()
    await house.connect()
    leaving = [await house.enter(b"PRI") for _ in range(20)]
    for _, writer in leaving:
        reset(writer)
    await house.connect()
    assert 0.2 < asyncio.get_running_loop().time() - begun < 3, "its turn comes, and at once when the others have left"
    assert house.inside.empty()
    await house.close()


async def test_the_oldest_of_too_many_is_dropped_and_those_that_authenticated_stay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(door, "CONNECTIONS", 3)
    house = House()
    await house.open()
    member, _ = await house.connect()
    relay = await house.enter(MAGIC)
    await eventually(lambda: house.relays, what="a relay")
    house.relays[0].settled()
    first = await house.enter()
    silent = [await house.enter(b"ch") for _ in range(3)]
    assert await lost(first[0])
    await house.enter(MAGIC)  # a relay counts until it has shown its ticket
    assert await lost(silent[0][0])
    for reader in (member[0], relay[0], silent[2][0]):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), PATIENCE / 10)
    await house.close()


async def test_a_lack_of_descriptors_is_waited_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "ACCEPT_AGAIN", 0.01)
    failures = [OSError(errno.EMFILE, "none left"), OSError(errno.ENOMEM, "none left"), ConnectionAbortedError()]

    class Failing(socket.socket):
        def accept(self) -> Any:
            if failures:
                raise failures.pop()
            return super().accept()

    with monkeypatch.context() as patch:
        patch.setattr(socket, "socket", Failing)
        house = House()
    await house.open()
    await house.connect()
    assert not failures
    await house.close()


async def test_a_listener_that_broke_ends_the_serving() -> None:
    entrance = Door(HostPort(LOOPBACK, free_port()), Taken, PATIENCE)
    serving = asyncio.create_task(entrance.serve(free_port()))
    await asyncio.sleep(0.01)  # so that it accepts
    entrance._sockets[0].shutdown(socket.SHUT_RDWR)
    with pytest.raises(ExceptionGroup) as raised:
        await asyncio.wait_for(serving, 5)
    assert isinstance(raised.value.exceptions[0], OSError)
    entrance.close()


# ---------------------------------------------------------------- ends


async def test_the_rest_arrives_before_the_end(house: House) -> None:
    guest, inner = await house.connect()
    guest[1].write(BIG)
    guest[1].close()
    assert await asyncio.wait_for(inner[0].read(-1), 30) == BIG
    guest, inner = await house.connect()
    inner[1].write(BIG)
    inner[1].close()
    assert await asyncio.wait_for(guest[0].read(-1), 30) == BIG


async def test_a_reset_on_one_side_ends_the_other(house: House) -> None:
    guest, inner = await house.connect()
    reset(guest[1])
    assert await lost(inner[0])
    guest, inner = await house.connect()
    reset(inner[1])
    assert await lost(guest[0])


@pytest.mark.parametrize("size", [len(BIG), 1], ids=["full", "empty"])
async def test_who_takes_nothing_is_dropped_after_a_while(
    house: House, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """Also when gRPC has ended, which nobody hears in a pipe that is full."""
    monkeypatch.setattr(door, "LINGER", 0.2)
    guest, inner = await house.connect()
    cast("asyncio.ReadTransport", guest[1].transport).pause_reading()
    inner[1].write(BIG[:size])
    inner[1].close()
    await eventually(lambda: not house.door._guests, what="the end inside")
    cast("asyncio.ReadTransport", guest[1].transport).resume_reading()
    with contextlib.suppress(ConnectionError):
        assert BIG.startswith(await asyncio.wait_for(guest[0].read(-1), 5))


async def test_who_takes_some_of_the_rest_and_then_nothing_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "LINGER", 0.1)
    outside = Line()
    guest = bounded(lambda guest: asyncio.sleep(60, cast("door._Inner", None)))
    guest.connection_made(outside)
    guest.pause_writing()
    guest.finish()
    assert outside.closed
    guest.resume_writing()
    await eventually(lambda: outside.aborted, what="the end")


async def test_who_takes_some_now_and_then_stays(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "LINGER", 0.5)
    guest, inner = await house.connect()
    inner[1].write(BIG)
    got = b""
    async with asyncio.timeout(30):
        while len(got) < len(BIG):
            got += await guest[0].read(1024 * 1024)
            await asyncio.sleep(0.01)
    assert got == BIG


async def test_a_guest_is_let_go_when_nobody_listens_inside() -> None:
    house = House()
    serving = asyncio.create_task(house.door.serve(free_port()))
    reader, writer = await house.enter(b"PRI")
    assert await lost(reader)
    writer.close()
    house.door.close()
    await serving


async def test_a_guest_is_let_go_when_the_inner_end_is_lost_at_once() -> None:
    """Before it was told that it is connected."""
    outside, inside = Line(), Line()

    async def connected(guest: door._Guest) -> door._Inner:
        inner = door._Inner(guest, {})
        inner.connection_made(inside)
        inside.close()
        inner.connection_lost(None)
        return inner

    guest = bounded(connected)
    guest.connection_made(outside)
    guest.data_received(b"PRI")
    joining = guest._joining
    assert joining is not None
    await joining
    assert outside.closed
    assert inside.written == b""


async def test_a_guest_that_leaves_at_once_leaves_nothing_behind(house: House) -> None:
    for _ in range(20):
        _, writer = await house.enter(b"PRI")
        reset(writer)
    await asyncio.wait_for(house.inside.get(), 5) if house.inside.qsize() else None
    await eventually(lambda: not house.door._guests, what="the end of every pipe")


# ---------------------------------------------------------------- addresses


async def test_the_address_of_a_guest_is_known_while_it_is_there(house: House) -> None:
    guest, inner = await house.connect()
    peer = peer_of(inner)
    assert house.door.peer(peer) == "ipv4:{}:{}".format(*guest[1].get_extra_info("sockname"))
    guest[1].close()
    await eventually(lambda: house.door.peer(peer) == peer, what="that it is forgotten")


@pytest.mark.parametrize("unknown", ["ipv4:127.0.0.1:1", "unix:", "", "ipv6:%5B::1%5D:99999"])
async def test_who_did_not_come_through_the_door_keeps_their_address(house: House, unknown: str) -> None:
    assert house.door.peer(unknown) == unknown


@pytest.mark.parametrize(
    ("name", "notation"),
    [(("10.0.0.1", 5), "ipv4:10.0.0.1:5"), (("::1", 5, 0, 0), "ipv6:[::1]:5"), (None, "unknown")],
)
def test_addresses_are_written_as_grpc_does(name: tuple[object, ...] | None, notation: str) -> None:
    assert door._notation(name) == notation


def test_an_address_that_is_taken_cannot_be_had() -> None:
    with socket.create_server((LOOPBACK, 0)) as taken, pytest.raises(OSError, match="in use"):
        Door(HostPort(*taken.getsockname()), Taken, PATIENCE)


def test_a_name_that_is_none_cannot_be_had() -> None:
    with pytest.raises(OSError, match=r"\w"):
        Door(HostPort("there.is.no.such.name.invalid", 1), Taken, PATIENCE)


async def test_a_name_with_two_addresses_is_listened_at_on_both(monkeypatch: pytest.MonkeyPatch) -> None:
    """And those that the machine does not have, or has twice, do no harm."""
    port = free_port()
    found = [
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
        for address in ("192.0.2.1", "127.0.0.1", "127.0.0.2", "127.0.0.1")
    ]
    with monkeypatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        entrance = Door(HostPort("host.example", port), Taken, PATIENCE)
    serving = asyncio.create_task(entrance.serve(free_port()))
    for address in ("127.0.0.1", "127.0.0.2"):
        reader, writer = await asyncio.open_connection(address, port)
        writer.write(MAGIC)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 2 * PATIENCE)
        writer.transport.abort()
    entrance.close()
    await serving


def test_a_name_of_which_the_machine_has_nothing_cannot_be_had() -> None:
    with pytest.raises(OSError, match="assign"):
        Door(HostPort("192.0.2.1", free_port()), Taken, PATIENCE)


async def test_a_crowd_may_come_at_once() -> None:
    """As all members do when the host is back: nobody is let in before the loop gets to it."""
    house = House()
    await house.open()
    crowd = [socket.create_connection(house.address, 1) for _ in range(300)]
    for guest in crowd:
        guest.close()
    await house.close()


async def test_nobody_gets_in_after_the_close(house: House) -> None:
    house.door.close()
    with pytest.raises(ConnectionError):
        await asyncio.open_connection(*house.address)


async def test_a_door_that_was_never_opened_closes() -> None:
    address = HostPort(LOOPBACK, free_port())
    Door(address, Taken, PATIENCE).close()
    Door(address, Taken, PATIENCE).close()
