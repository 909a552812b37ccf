"""The HTTP protocol over a played transport: what bytes become which requests, however they are split."""

import asyncio
import itertools
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import uvicorn
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.types import Receive, Scope, Send
from structlog.testing import capture_logs
from uvicorn.server import ServerState

from gateway.http import protocol
from gateway.http.connection import Bounds, State
from gateway.http.protocol import PROBES, Protocol
from gateway.http.wire import BEGINNING
from tests.harness.virtual import virtual

BOUNDS = Bounds(max_headers=4096, header_timeout=30, body_timeout=20, answer_timeout=650, stall_timeout=10)
UPGRADES = ("h2c", "websocket", "foo", "h2c, websocket", "TLS/1.0")
CONNECTIONS = ("Upgrade", "upgrade, keep-alive", "Upgrade, HTTP2-Settings", "keep-alive, UPGRADE")
METHODS = ("GET", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "PROPFIND", "SUBSCRIBE")
PROXY = ("10.9.0.2", 40000)
"""Where all connections come from."""
PORT = 8501
"""Where they go to."""
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n"
LENGTH = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n"


class Socket(socket.socket):
    def getpeername(self) -> tuple[str, int]:
        return PROXY

    def getsockname(self) -> tuple[str, int]:
        return "10.8.0.1", PORT


class Wire(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        self.socket = Socket()
        super().__init__({"socket": self.socket})
        self.written = b""
        self.unread = 0
        self.ended = self.closed = self.aborted = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.ended, "written after the end"
        self.written += bytes(data)

    def write_eof(self) -> None:
        self.ended = True

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.ended = self.closed = True

    def abort(self) -> None:
        self.close()
        self.aborted = True

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return self.unread


@dataclass
class Served:
    """One request as the application had it."""

    method: str
    path: str
    version: str
    headers: list[tuple[bytes, bytes]]
    body: bytes


class Server:
    """One connection to an application that keeps what it is asked; :meth:`settle` lets it work."""

    def __init__(
        self,
        app: Callable[[Scope, Receive, Send], Awaitable[None]] | None = None,
        bounds: Bounds = BOUNDS,
        proxy_port: int | None = None,
    ) -> None:
        self.served: list[Served] = []
        self.clients: list[tuple[str, int]] = []
        config = uvicorn.Config(
            app or self.keep,
            ws="none",
            interface="asgi3",
            lifespan="off",
            proxy_headers=False,
            log_config=None,
        )
        self.wire = Wire()
        self.protocol: Any = Protocol(bounds, proxy_port, config, ServerState(), {})
        self.protocol.connection_made(self.wire)

    async def keep(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = b""
        while (message := await receive())["type"] == "http.request":
            body += message["body"]
            if not message["more_body"]:
                break
        else:
            return  # the client has gone
        self.clients.append(scope["client"])
        self.served.append(Served(scope["method"], scope["path"], scope["http_version"], scope["headers"], body))
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    def receive(self, data: bytes) -> None:
        """Bytes arrive, as long as the transport would read them."""
        if not self.wire.closed:
            self.protocol.data_received(data)

    async def settle(self) -> None:
        for _ in range(6):
            await asyncio.sleep(0)

    def lose(self) -> None:
        self.protocol.connection_lost(None)
        self.wire.socket.close()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    yield made
    made.lose()
    await made.settle()


async def served(pieces: Iterator[bytes]) -> tuple[list[Served], bytes, bool]:
    """What the application had, what was written, and whether the connection goes on, after these reads."""
    server = Server()
    for piece in pieces:
        server.receive(piece)
        await server.settle()
    got = server.served, server.wire.written, not server.wire.ended
    server.lose()
    await server.settle()
    return got


def split(data: bytes, cuts: list[int]) -> Iterator[bytes]:
    edges = [0, *sorted({cut % len(data) for cut in cuts} - {0}), len(data)]
    return (data[start:end] for start, end in itertools.pairwise(edges))


def request(method: str, fields: list[tuple[str, str]], body: bytes, chunk: int) -> bytes:
    """A request with its body in chunks of that many bytes, or with its length for 0."""
    framing = "transfer-encoding: chunked" if chunk else f"content-length: {len(body)}"
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields)
    head = f"{method} /asked?a=b HTTP/1.1\r\nHost: a:80\r\n{lines}{framing}\r\n\r\n".encode()
    if not chunk:
        return head + body
    parts = (body[start : start + chunk] for start in range(0, len(body), chunk))
    return head + b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


upgrading = st.tuples(st.sampled_from(CONNECTIONS), st.sampled_from(UPGRADES)).map(
    lambda asked: [("Connection", asked[0]), ("Upgrade", asked[1]), ("HTTP2-Settings", "AAMAAABkAAQAAP__")]
)
requests = st.builds(
    request,
    method=st.sampled_from(METHODS),
    fields=st.one_of(st.just([]), upgrading),
    body=st.sampled_from([b"", b"x", SMUGGLED, SMUGGLED * 3, b"\r\n\r\n" + SMUGGLED]),
    chunk=st.sampled_from([0, 1, 7, 1000]),
)
cuts = st.lists(st.integers(0, 10_000), max_size=12)


@given(asked=requests, more=requests, where=cuts)
@settings(max_examples=150)
def test_any_split_of_the_bytes_gives_the_same_requests(asked: bytes, more: bytes, where: list[int]) -> None:
    """Two requests, the second once the first is answered."""

    async def both(first: Iterator[bytes], second: Iterator[bytes]) -> tuple[list[Served], bytes, bool]:
        return await served(piece for part in (first, second) for piece in part)

    whole = asyncio.run(both(iter([asked]), iter([more])))
    assert asyncio.run(both(split(asked, where), split(more, where))) == whole
    assert len(whole[0]) == 2
    assert whole[2]


@pytest.mark.parametrize("connection", CONNECTIONS)
@pytest.mark.parametrize("upgrade", UPGRADES)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("chunk", [0, 8])
async def test_a_request_that_asks_for_another_protocol_keeps_its_body(
    method: str, upgrade: str, connection: str, chunk: int
) -> None:
    fields = [("Connection", connection), ("HTTP2-Settings", "AAMA"), ("Upgrade", upgrade), ("X-Last", "b c")]
    asked = request(method, fields, SMUGGLED, chunk)
    for pieces in ([asked], split(asked, [asked.index(b"\r\n\r\n") + 4]), split(asked, list(range(len(asked))))):
        (got,), _, goes_on = await served(iter(pieces))
        assert (got.method, got.path, got.version, got.body) == (method, "/asked", "1.1", SMUGGLED)
        names = [name for name, _ in got.headers]
        assert names[:3] == [b"host", b"connection", b"x-last"]
        assert goes_on


async def test_what_asks_for_another_protocol_may_also_ask_to_close(server: Server) -> None:
    server.receive(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade, close\r\nupgrade: h2c\r\n\r\n")
    await server.settle()
    assert b"connection: close" in server.wire.written
    assert server.wire.closed


@pytest.mark.parametrize("bad", [b"transfer-encoding: chunked\r\ncontent-length: 1\r\n", b"host: b\r\n", b"a b: c\r\n"])
async def test_an_upgrade_makes_no_header_valid(server: Server, bad: bytes) -> None:
    server.receive(b"POST / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: h2c\r\n" + bad + b"\r\nabc")
    await server.settle()
    assert server.wire.written.startswith(b"HTTP/1.1 400 ")
    assert server.served == []


@pytest.mark.parametrize("pieces", [1, 1000])
async def test_connect_is_refused_and_nothing_after_it_is_a_request(server: Server, pieces: int) -> None:
    for piece in split(b"CONNECT a:443 HTTP/1.1\r\nhost: a:443\r\n\r\n" + SMUGGLED * 2, list(range(pieces))):
        server.receive(piece)
        await server.settle()
    head, _, body = server.wire.written.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 405 ")
    assert b"CONNECT" in body
    assert body.count(b"HTTP/1.1") == 0
    assert server.wire.ended
    assert server.served == []


@pytest.mark.parametrize(
    ("version", "hosts", "status"),
    [
        ("1.1", ["a"], 200),
        ("1.1", [""], 200),
        ("1.1", ["a \t"], 200),
        ("1.1", ["[::1]:8501"], 200),
        ("1.1", [], 400),
        ("1.1", ["a", "a"], 400),
        ("1.1", ["a b"], 400),
        ("1.1", ["a/b"], 400),
        ("1.0", [], 200),
        ("1.0", ["a"], 200),
        ("1.0", ["a", "b"], 400),
    ],
)
async def test_a_request_names_its_host_once(server: Server, version: str, hosts: list[str], status: int) -> None:
    lines = "".join(f"Host: {host}\r\n" for host in hosts)
    server.receive(f"GET / HTTP/{version}\r\n{lines}\r\n".encode())
    await server.settle()
    assert server.wire.written.startswith(b"HTTP/1.1 %d " % status)


@pytest.mark.parametrize("behind", [SMUGGLED, b"\x00garbage\r\n\r\n", SMUGGLED + b"\x00garbage\r\n\r\n", b"G"])
@pytest.mark.parametrize("at_once", [True, False])
async def test_what_comes_behind_a_request_before_its_answer_is_discarded(behind: bytes, at_once: bool) -> None:
    """The answer is complete, says that it is the last one, and holds nothing else."""
    server = Server()
    asked = request("POST", [], b"abc", 0)
    for piece in [asked + behind] if at_once else [asked, behind]:
        server.receive(piece)
    server.receive(SMUGGLED)
    await server.settle()
    assert [got.body for got in server.served] == [b"abc"]
    assert server.wire.written == b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok"
    assert server.wire.ended
    assert not server.wire.closed, "its client may be sending"
    server.receive(SMUGGLED)
    await server.settle()
    assert len(server.served) == 1
    server.lose()


async def test_empty_lines_between_requests_are_no_requests(server: Server) -> None:
    for piece in (request("POST", [], b"abc", 0) + b"\r\n", b"\r\n\r\n", SMUGGLED):
        server.receive(piece)
        await server.settle()
    assert [got.path for got in server.served] == ["/asked", "/smuggled"]
    assert not server.wire.ended


@pytest.mark.parametrize("size", [1, 100, 10_000])
async def test_empty_lines_end_at_the_limit_of_the_headers(server: Server, size: int) -> None:
    sent = 0
    while not server.wire.ended and sent < 10 * BOUNDS.max_headers:
        server.receive(b"\r\n" * size)
        sent += 2 * size
    assert server.wire.written.startswith(b"HTTP/1.1 431 ")


async def test_a_connection_ends_with_the_answer_beside_which_empty_lines_passed_the_limit() -> None:
    go_on = asyncio.Event()

    async def app(_: Scope, __: Receive, send: Send) -> None:
        await go_on.wait()
        await refuse(_, __, send)

    server = Server(app)
    server.receive(request("POST", [], b"abc", 0))
    for _ in range(3):
        server.receive(b"\r\n" * BOUNDS.max_headers)
    await server.settle()
    assert server.wire.written == b""
    go_on.set()
    await server.settle()
    assert server.wire.written.startswith(b"HTTP/1.1 404 ")
    assert b"connection: close" in server.wire.written
    assert server.wire.ended
    server.lose()


async def test_what_was_not_read_of_a_body_is_not_kept_with_the_connection() -> None:
    server = Server(refuse)
    server.receive(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\n" + bytes(100_000))
    await server.settle()
    assert server.wire.written.startswith(b"HTTP/1.1 404 ")
    assert not server.protocol.cycle.body
    server.lose()


async def wait_for_the_end(_: Scope, receive: Receive, __: Send) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def refuse(_: Scope, __: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 404, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"no"})


HEAD = b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"
ENDLESS = {
    "a trailer's value": (b"0\r\nx: ", b"a"),
    "trailers": (b"0\r\n", b"x: a\r\n"),
    "a chunk extension": (b"1;x=", b"a"),
    "leading zeros of a chunk size": (b"", b"0"),
    "chunks of a byte": (b"", b"1\r\na\r\n"),
}


@pytest.mark.parametrize(("start", "more"), ENDLESS.values(), ids=ENDLESS.keys())
@pytest.mark.parametrize("early", [False, True], ids=["before the answer", "after the answer"])
async def test_what_is_no_payload_ends_the_connection(start: bytes, more: bytes, early: bool) -> None:
    server = Server(refuse if early else None)
    server.receive(HEAD + start)
    await server.settle()
    sent = 0
    piece = more * max(1, 600 // len(more))
    while not server.wire.ended and sent < 10 * BOUNDS.max_headers:
        server.receive(piece)
        sent += len(piece)
        await server.settle()
    assert server.wire.ended
    assert server.served == []
    answers = [line for line in server.wire.written.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]
    assert len(answers) == 1
    assert answers[0].split()[1] in ((b"404",) if early else (b"431", b"400"))
    server.lose()
    await server.settle()


async def test_space_around_a_header_is_not_part_of_its_value(server: Server) -> None:
    server.receive(b"GET / HTTP/1.1\r\nhost: a\r\nauthorization:\t Bearer  x \t \r\nempty:  \r\n\r\n")
    await server.settle()
    (got,) = server.served
    assert got.headers == [(b"host", b"a"), (b"authorization", b"Bearer  x"), (b"empty", b"")]


async def test_trailers_do_not_become_headers(server: Server) -> None:
    server.receive(HEAD + b"3\r\nabc\r\n0\r\nauthorization: Bearer x\r\nhost: b\r\n\r\n")
    await server.settle()
    (got,) = server.served
    assert [name for name, _ in got.headers] == [b"host", b"transfer-encoding"]


async def test_a_bad_chunk_behind_an_early_answer_gets_no_answer_of_its_own() -> None:
    """A proxy would take it for the answer to the next request, maybe another client's."""
    server = Server(refuse)
    server.receive(HEAD)
    await server.settle()
    server.receive(b"zz\r\n")
    await server.settle()
    assert server.wire.written.count(b"HTTP/1.1 ") == 1
    assert server.wire.ended
    server.lose()


async def test_a_bad_chunk_gets_one_answer_and_the_application_a_disconnect() -> None:
    server = Server(wait_for_the_end)
    server.receive(HEAD + b"1\r\na\r\nzz\r\n")
    await server.settle()
    assert server.wire.written.count(b"HTTP/1.1 400 ") == 1
    assert not server.protocol.tasks
    server.lose()


@pytest.mark.parametrize("eof", [True, False])
@pytest.mark.parametrize("pipelined", [b"", SMUGGLED, SMUGGLED * 100, b"\r\n"])
async def test_a_client_that_leaves_reaches_the_application(
    eof: bool, pipelined: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not at its end of file, behind which it may be waiting, but when it resets what is written after it."""
    monkeypatch.setattr(protocol, "PROBES", (0.0, 3600.0))
    server = Server(wait_for_the_end)
    server.receive(request("POST", [], b"abc", 0))
    await server.settle()
    server.receive(pipelined)
    if eof:
        assert server.protocol.eof_received()
        await server.settle()
        assert server.wire.written == b"HT"
    assert server.protocol.tasks
    server.protocol.connection_lost(ConnectionResetError())
    await server.settle()
    assert not server.protocol.tasks
    server.lose()


@pytest.mark.parametrize("pipelined", [b"", SMUGGLED, b"\x00garbage\r\n\r\n"])
@pytest.mark.parametrize("times", range(len(PROBES) + 1))
async def test_probes_are_the_beginning_of_the_answer(
    times: int, pipelined: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "PROBES", (0.0,) * times)
    go_on = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await go_on.wait()
        await refuse(scope, receive, send)

    server = Server(app)
    server.receive(request("POST", [], b"abc", 0) + pipelined)
    assert server.protocol.eof_received()
    async with asyncio.timeout(10):
        while server.protocol.prober is not None:
            await asyncio.sleep(0)
    assert server.wire.written == BEGINNING[: times + 1]
    go_on.set()
    await server.settle()
    assert server.wire.written == b"HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno"
    assert server.wire.closed, "nothing more can come"
    server.lose()


@pytest.mark.parametrize(
    "sent", [b"", b"POST", LENGTH + b"\r\na", SMUGGLED], ids=["nothing", "a head", "a body", "idle"]
)
async def test_a_client_that_ends_without_waiting_for_an_answer_is_gone(sent: bytes) -> None:
    server = Server(refuse if sent == SMUGGLED else wait_for_the_end)
    server.receive(sent)
    await server.settle()
    written = server.wire.written
    assert not server.protocol.eof_received()
    await server.settle()
    assert (server.wire.written, server.protocol.tasks) == (written, set())
    server.lose()


async def test_a_client_that_takes_http2_for_granted_is_told_so(server: Server) -> None:
    with capture_logs() as lines:
        server.receive(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")
        server.receive(b"\x00\x00\x00\x04\x01\x00\x00\x00\x00")
        await server.settle()
    head, _, body = server.wire.written.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 505 ")
    assert b"HTTP/1.1" in body
    assert [(line["event"], line["code"]) for line in lines] == [("request refused", "http2_not_spoken")]


@pytest.mark.parametrize(
    ("asked", "said"), [("keep-alive", b"connection: keep-alive\r\n"), ("close", b"connection: close\r\n")]
)
async def test_an_old_client_keeps_a_connection_only_if_it_asks_to(server: Server, asked: str, said: bytes) -> None:
    server.receive(f"GET / HTTP/1.0\r\nconnection: {asked}\r\nexpect: 100-continue\r\n\r\n".encode())
    await server.settle()
    assert server.wire.written == b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n" + said + b"\r\nok"
    assert server.wire.ended == (asked == "close")


async def test_a_body_behind_an_early_answer_is_discarded_and_the_connection_goes_on() -> None:
    server = Server(refuse)
    asked = request("POST", [], SMUGGLED * 50, 0)
    server.receive(asked[:100])
    await server.settle()
    assert server.protocol.connection.state is State.DISCARDING
    server.receive(asked[100:] + SMUGGLED)
    await server.settle()
    assert server.wire.written.count(b"HTTP/1.1 404 ") == 2
    assert not server.wire.ended
    server.lose()


async def test_a_last_answer_that_comes_early_is_read_before_the_connection_closes() -> None:
    """What the client still sends is read: closing with unread bytes would reset the connection."""
    server = Server(refuse)
    server.receive(b"POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 100000\r\n\r\n")
    await server.settle()
    assert server.wire.ended
    assert not server.wire.closed
    for _ in range(10):
        server.receive(b"a" * 10_000)
    server.protocol.eof_received()
    server.lose()


async def test_only_so_much_is_discarded() -> None:
    server = Server(refuse, Bounds(4096, 30, 20, 650, 10, discard_limit=1_000_000))
    server.receive(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 100000000\r\n\r\n")
    await server.settle()
    sent = 0
    while not server.wire.closed:
        server.receive(b"a" * 10_000)
        sent += 10_000
    assert sent == 1_010_000
    server.lose()


SHORT = Bounds(4096, 0.02, 0.04, 0.2, 0.06, keep_alive=0.08, linger=0.03)
STATES = {
    State.WAITING: (None, b"\r\n"),
    State.HEAD: (None, b"GET / HTTP/1.1\r\n"),
    State.BODY: (wait_for_the_end, LENGTH + b"\r\na"),
    State.ANSWERING: (wait_for_the_end, SMUGGLED),
    State.LAST: (wait_for_the_end, SMUGGLED * 2),
    State.DISCARDING: (refuse, LENGTH + b"\r\na"),
    State.IDLE: (refuse, SMUGGLED),
    State.CLOSING: (refuse, LENGTH + b"connection: close\r\n\r\na"),
}


@pytest.mark.parametrize("unread", [0, 100])
@pytest.mark.parametrize("state", STATES)
@virtual
async def test_every_state_ends(state: State, unread: int) -> None:
    app, request_ = STATES[state]
    server = Server(app, SHORT)
    server.wire.unread = unread
    server.receive(request_)
    await server.settle()
    assert server.protocol.connection.state is state
    async with asyncio.timeout(10):
        while not server.wire.closed:
            if state in (State.WAITING, State.IDLE, State.CLOSING):
                server.receive(b"\r\n")
            await asyncio.sleep(0.003)
        while not (server.wire.aborted or (state is State.IDLE and not unread)):
            await asyncio.sleep(0.003)
    assert not server.protocol.tasks or state in (State.BODY, State.ANSWERING, State.LAST)
    server.lose()
    await server.settle()
    assert not server.protocol.tasks


async def test_no_request_warns_in_the_log(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    server.receive(request("POST", [("Connection", "Upgrade"), ("Upgrade", "websocket")], b"abc", 0))
    await server.settle()
    server.receive(b"\x00\r\n\r\n")
    await server.settle()
    assert not [record for record in caplog.records if record.name.startswith("uvicorn")]
