"""A listening port: who connects is bounded in number and time until it has authenticated."""

import asyncio
import contextlib
import errno
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from fleet.settings import HostPort
from host import listener
from host.listener import Client, Listener, source_of
from tests.harness.ports import free_port
from tests.harness.waiting import eventually

pytestmark = pytest.mark.both_loops

LOOPBACK = "127.0.0.1"

Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Port:
    """A listener that keeps each client until the client leaves."""

    def __init__(self, address: HostPort | None = None) -> None:
        self.address = address or HostPort(LOOPBACK, free_port())
        self.clients: list[Client] = []
        self._writers: list[asyncio.StreamWriter] = []
        self.listener = Listener("HOST_BIND", self.address, self._handle)

    async def _handle(self, client: Client) -> None:
        self.clients.append(client)
        loop = asyncio.get_running_loop()
        while await loop.sock_recv(client.sock, 100):
            pass

    async def __aenter__(self) -> "Port":
        self.serving = asyncio.create_task(self.listener.serve())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.serving.cancel()
        await asyncio.gather(self.serving, return_exceptions=True)
        for writer in self._writers:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
        assert not self.listener._pending
        assert not self.listener._clients

    async def connect(self) -> tuple[asyncio.StreamReader, Client]:
        known = len(self.clients)
        reader, _ = await self.open()
        await eventually(lambda: len(self.clients) > known, what="the client")
        return reader, self.clients[-1]

    async def open(self, host: str = "") -> Ends:
        reader, writer = await asyncio.open_connection(host or self.address.host, self.address.port)
        self._writers.append(writer)
        return reader, writer


@pytest.fixture
async def port() -> AsyncIterator[Port]:
    async with Port() as port:
        yield port


async def is_closed(reader: asyncio.StreamReader) -> bool:
    """Whether the other side ends the connection, in whatever way, before it sends anything."""
    try:
        return not await asyncio.wait_for(reader.read(1), 5)
    except ConnectionError:
        return True


async def stays_open(reader: asyncio.StreamReader, seconds: float) -> bool:
    try:
        await asyncio.wait_for(reader.read(1), seconds)
    except TimeoutError:
        return True
    return False


async def test_a_client_that_does_not_authenticate_is_dropped(
    port: Port, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(listener, "AUTHENTICATE_WITHIN", 0.1)
    reader, _ = await port.connect()
    assert await is_closed(reader)
    assert "it has not authenticated in time" in capsys.readouterr().out


async def test_a_client_that_authenticated_stays(port: Port, monkeypatch: pytest.MonkeyPatch) -> None:
    handle = port.listener._handle

    async def let_in(client: Client) -> None:
        port.listener.authenticated(client)
        await handle(client)

    port.listener._handle = let_in
    monkeypatch.setattr(listener, "AUTHENTICATE_WITHIN", 0.1)
    reader, client = await port.connect()
    assert client.authenticated.is_set()
    assert await stays_open(reader, 0.2)


async def test_the_oldest_of_too_many_is_dropped_and_those_that_authenticated_stay(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(listener, "CONNECTIONS", 2)
    async with Port() as port:
        member, client = await port.connect()
        port.listener.authenticated(client)
        first, _ = await port.connect()
        others = [(await port.connect())[0] for _ in range(2)]
        assert await is_closed(first)
        for reader in (member, *others):
            assert await stays_open(reader, 0.05)
    assert capsys.readouterr().out.count("too many connections have not authenticated") == 1


async def test_the_source_with_the_most_loses_its_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    sources = ["crowd", "crowd", "other", "crowd", "other", "other"]
    monkeypatch.setattr(listener, "CONNECTIONS", 3)
    monkeypatch.setattr(listener, "source_of", lambda _: sources.pop(0))
    async with Port() as port:
        readers = [(await port.connect())[0] for _ in range(6)]
        for dropped in readers[:3]:  # two of the crowd, and then one of the others, who are more by then
            assert await is_closed(dropped)
        for reader in readers[3:]:
            assert await stays_open(reader, 0.02)


async def test_a_client_that_leaves_is_forgotten(port: Port) -> None:
    for _ in range(5):
        _, writer = await port.open()
        writer.close()
    await eventually(lambda: len(port.clients) == 5 and not port.listener._pending, what="that all are forgotten")


async def test_a_client_whose_handling_fails_harms_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    async def fail(client: Client) -> None:
        raise LookupError

    port = Port()
    port.listener._handle = fail
    async with port:
        for _ in range(2):
            reader, _ = await port.open()
            assert await is_closed(reader)
        assert not port.serving.done()
    assert capsys.readouterr().out.count("a connection failed") == 2


async def test_a_lack_of_descriptors_is_waited_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "ACCEPT_AGAIN", 0.01)
    failures = [OSError(errno.EMFILE, "none left"), OSError(errno.ENOMEM, "none left"), ConnectionAbortedError()]

    class Failing(socket.socket):
        def accept(self) -> Any:
            if failures:
                raise failures.pop()
            return super().accept()

    with monkeypatch.context() as patch:
        patch.setattr(socket, "socket", Failing)
        port = Port()
    async with port:
        await port.connect()
        assert not failures


async def test_a_listener_that_broke_ends_the_serving() -> None:
    port = Port()
    serving = asyncio.create_task(port.listener.serve())
    await eventually(lambda: port.listener._accepting, what="that it accepts")
    await asyncio.sleep(0.01)  # the loop watches it by now
    port.listener._sockets[0].shutdown(socket.SHUT_RDWR)
    with pytest.raises(ExceptionGroup) as raised:
        await asyncio.wait_for(serving, 5)
    assert isinstance(raised.value.exceptions[0], OSError)


async def test_clients_stay_when_the_port_is_closed_and_no_one_else_connects(port: Port) -> None:
    reader, _ = await port.connect()
    port.listener.close()
    await eventually(lambda: port.listener._sockets[0].fileno() == -1, what="the end of the port")
    with pytest.raises(ConnectionError):
        await port.open()
    assert await stays_open(reader, 0.05)


async def test_a_crowd_may_come_at_once(port: Port) -> None:
    """As all members do when the host is back: they wait in the backlog until the loop accepts them."""
    crowd = [socket.create_connection(port.address, 1) for _ in range(300)]
    for client in crowd:
        client.close()
    await eventually(lambda: len(port.clients) == 300, what="all of them")


# ---------------------------------------------------------------- addresses


@pytest.mark.parametrize(
    ("name", "address", "source"),
    [
        (("10.0.0.1", 5), "ipv4:10.0.0.1:5", "10.0.0.1"),
        (("2001:db8::1", 5, 0, 0), "ipv6:[2001:db8::1]:5", "2001:db8::/64"),
    ],
)
async def test_addresses_are_written_as_grpc_does(name: tuple[Any, ...], address: str, source: str) -> None:
    with socket.socket() as sock:
        client = Client(sock, name)
    assert (client.address, client.source) == (address, source)


@pytest.mark.parametrize(
    ("host", "source"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
    ],
)
def test_one_network_of_ipv6_counts_as_one_source(host: str, source: str) -> None:
    assert source_of(host) == source


@pytest.mark.parametrize(
    ("host", "reason"),
    [("192.0.2.1", "cannot assign requested address"), ("there.is.no.such.name.invalid", r"\w+")],
)
def test_an_address_that_the_machine_has_not_is_an_error_that_names_the_setting(host: str, reason: str) -> None:
    with pytest.raises(OSError, match=rf"^HOST_BIND: cannot listen on {host}:1: {reason}"):
        Port(HostPort(host, 1))


def test_an_address_in_use_is_an_error_that_names_the_setting() -> None:
    with (
        socket.create_server((LOOPBACK, 0)) as used,
        pytest.raises(OSError, match=r"^HOST_BIND: cannot listen on 127.0.0.1:\d+: port \d+ is taken"),
    ):
        Port(HostPort(*used.getsockname()))


async def test_a_name_with_two_addresses_is_listened_at_on_both(monkeypatch: pytest.MonkeyPatch) -> None:
    """And those that the machine does not have, or has twice, do no harm."""
    number = free_port()
    found = [
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, number))
        for address in ("192.0.2.1", "127.0.0.1", "127.0.0.2", "127.0.0.1")
    ]
    with monkeypatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        port = Port(HostPort("host.example", number))
    async with port:
        for address in ("127.0.0.1", "127.0.0.2"):
            await port.open(address)
        await eventually(lambda: len(port.clients) == 2, what="both")


def test_a_listener_that_never_served_closes() -> None:
    address = HostPort(LOOPBACK, free_port())
    Port(address).listener.close()
    Port(address).listener.close()
