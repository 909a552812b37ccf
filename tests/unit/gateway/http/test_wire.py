"""The wire of a connection."""

import asyncio
import socket

import pytest
from starlette.types import Receive, Scope, Send

from gateway.http.wire import EXTENSION, Wire
from tests.unit.gateway.http.test_protocol import Server

HEAD = b"POST /a HTTP/%b\r\nhost: a\r\ncontent-length: 0\r\n\r\n"


class Application:
    """Begins an answer, and ends it when told to."""

    def __init__(self) -> None:
        self.wire: Wire | None = None
        self.end = asyncio.Event()

    async def __call__(self, scope: Scope, _: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        self.wire = scope["extensions"][EXTENSION]
        await self.end.wait()
        await send({"type": "http.response.body", "body": b"asgi", "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def begun(version: bytes = b"1.1") -> tuple[Server, Application, Wire]:
    application = Application()
    server = Server(application)
    server.receive(HEAD % version)
    await server.settle()
    assert application.wire is not None
    return server, application, application.wire


@pytest.mark.parametrize(
    ("version", "written"),
    [(b"1.0", b"wireasgi"), (b"1.1", b"4\r\nwire\r\n4\r\nasgi\r\n0\r\n\r\n")],
)
async def test_chunks_are_framed_as_the_servers_own(version: bytes, written: bytes) -> None:
    server, application, wire = await begun(version)
    head = len(server.wire.written)
    wire.write_chunk(b"wire")
    application.end.set()
    await server.settle()
    assert (b"transfer-encoding" in server.wire.written) == (version == b"1.1")
    assert server.wire.written[head:] == written
    assert server.wire.ended == (version == b"1.0")
    server.lose()


async def test_it_is_writable_while_the_transport_is() -> None:
    server, application, wire = await begun()
    states = [wire.writable]
    await wire.drain()
    server.protocol.pause_writing()
    states.append(wire.writable)
    draining = asyncio.create_task(wire.drain())
    await server.settle()
    states.append(draining.done())
    server.protocol.resume_writing()
    await draining
    states.append(wire.writable)
    assert states == [True, False, False, True]
    application.end.set()
    server.lose()
    await server.settle()


async def test_what_is_written_to_a_connection_that_closes_is_dropped() -> None:
    """uvloop raises in the write, before the application is told that its client is gone."""
    server, application, wire = await begun()
    server.wire.close()
    wire.write_chunk(b"late")
    application.end.set()
    await server.settle()
    assert b"late" not in server.wire.written
    server.lose()


async def test_a_client_that_is_gone_ends_a_wait() -> None:
    server, application, wire = await begun()
    server.protocol.pause_writing()
    draining = asyncio.create_task(wire.drain())
    server.lose()
    await draining
    application.end.set()
    await server.settle()


async def test_unsent_counts_the_transports_bytes_and_the_systems() -> None:
    server, application, wire = await begun()
    ours, theirs = socket.socketpair()
    server.wire.socket.close()
    server.wire._extra["socket"] = ours  # type: ignore[attr-defined]
    before = wire.unsent()
    server.wire.unread = 100
    assert wire.unsent() == before + 100
    ours.send(b"x" * 1000)
    assert wire.unsent() > before + 100
    theirs.recv(10_000)
    assert wire.unsent() == before + 100
    server.wire.closed = True
    ours.send(b"x" * 1000)
    assert wire.unsent() == 100
    application.end.set()
    server.lose()
    ours.close()
    theirs.close()
    await server.settle()


async def test_an_abort_drops_the_connection() -> None:
    server, application, wire = await begun()
    wire.abort()
    assert server.wire.aborted
    server.lose()
    application.end.set()
    await server.settle()
