"""The HTTP server: uvicorn under our signals, on a socket of ours, with a way to drop a connection."""

import contextlib
import fcntl
import socket
import sys
import termios
import uuid
from asyncio import TimerHandle, Transport
from collections.abc import Iterator
from functools import partial

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from fleet import logs
from fleet.settings import HostPort
from gateway.errors import GatewayError, HeadersTooLarge, NotHttp
from gateway.openai_format import openai_error

log = logs.logger("gateway.http")

KEEP_ALIVE = 75
"""Seconds that an idle connection is kept: longer than clients and proxies keep theirs, so that they close first."""

BACKLOG = 2048

UNSENT = 64 * 1024
"""Bytes that the system holds for a client beyond those on their way. Left alone it takes megabytes for one that reads
nothing, out of the credit's sight."""


class Protocol(HttpToolsProtocol):
    """Bounds the headers' bytes and time, which uvicorn does not, and refuses what is no request in our errors' shape.

    It also puts four things of the connection into the scope's extensions: ``chatfleet.abort`` drops it,
    ``chatfleet.unsent`` says how many bytes wait for its client, ``chatfleet.writable`` whether sending would not wait,
    and ``chatfleet.write`` sends a chunk of an answer that has begun, as ASGI's ``send`` would, without its layers.
    """

    max_headers: int
    header_timeout: float
    deadline: TimerHandle | None = None
    in_headers = True
    received = 0
    header_bytes = 0

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.deadline = self.loop.call_later(self.header_timeout, self.expire)

    def connection_lost(self, exc: Exception | None) -> None:
        self.meet_deadline()
        super().connection_lost(exc)

    def meet_deadline(self) -> None:
        if self.deadline is not None:
            self.deadline.cancel()
            self.deadline = None

    def expire(self) -> None:
        """Hang up on a connection whose request does not come: it would hold its place for ever."""
        log.info("connection without a request", code="header_timeout")
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        if self.in_headers:
            self.received += len(data)
        super().data_received(data)
        if self.in_headers and self.received > self.max_headers and not self.transport.is_closing():
            self.refuse(HeadersTooLarge(self.max_headers))

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.in_headers, self.header_bytes = True, 0
        if self.deadline is None:
            self.deadline = self.loop.call_later(self.header_timeout, self.expire)
        transport = self.transport
        extensions = {
            "chatfleet.abort": transport.abort,
            "chatfleet.unsent": partial(unsent, transport),
            "chatfleet.writable": self.writable,
            "chatfleet.write": self.write_chunk,
        }
        self.scope["extensions"] = extensions  # type: ignore[typeddict-item]

    def writable(self) -> bool:
        return not self.flow.write_paused and not self.transport.is_closing()

    def write_chunk(self, chunk: bytes) -> None:
        # uvicorn sends every answer of unknown length in chunks, whatever version the client speaks.
        self.transport.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))

    def on_url(self, url: bytes) -> None:
        self.count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self.count(len(name) + len(value))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self.meet_deadline()
        self.in_headers, self.received = False, 0
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self.in_headers = True
        super().on_message_complete()

    def count(self, size: int) -> None:
        self.header_bytes += size
        if self.header_bytes > self.max_headers:
            raise HeadersTooLarge(self.max_headers)

    def send_400_response(self, msg: str) -> None:
        too_large = self.header_bytes > self.max_headers
        self.refuse(HeadersTooLarge(self.max_headers) if too_large else NotHttp())

    def refuse(self, error: GatewayError) -> None:
        """Answer what no application sees, in the one shape that has the fields of both APIs, and hang up.

        Beside an answer that has begun nothing is said: its client would read it as a part of that.
        """
        request_id = uuid.uuid4().hex
        answering = self.cycle is not None and self.cycle.response_started and not self.cycle.response_complete
        log.info("request refused", request=request_id, code=error.code, status=0 if answering else error.status)
        if not answering:
            answer = openai_error(error, request_id)
            fields = [*answer.raw_headers, (b"x-request-id", request_id.encode()), (b"connection", b"close")]
            head = b"".join(b"%b: %b\r\n" % field for field in fields)
            self.transport.write(STATUS_LINE[error.status] + head + b"\r\n" + bytes(answer.body))
        self.transport.close()


def protocol(max_headers: int, header_timeout: float) -> type[Protocol]:
    """The protocol with its bounds: uvicorn makes its instances itself."""
    return type("BoundedProtocol", (Protocol,), {"max_headers": max_headers, "header_timeout": header_timeout})


class Server(uvicorn.Server):
    """A uvicorn server that leaves the signals to its process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone."""
        yield

    def retire(self) -> None:
        """Close every connection that is open now as soon as it is idle, which may be at once."""
        for connection in list(self.server_state.connections):
            connection.shutdown()


def unsent(transport: Transport) -> int:
    """Bytes written to a connection that its client has not acknowledged; fewer of them mean that it reads.

    The transport's own buffer does not tell: the system's, of megabytes, asks for more only when a third is free.
    """
    waiting = transport.get_write_buffer_size()
    if not transport.is_closing():
        with contextlib.suppress(OSError):
            queued = fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, bytes(4))
            waiting += int.from_bytes(queued, sys.byteorder)
    return waiting


def listen(address: HostPort) -> socket.socket:
    """A listening socket. Raises ``OSError`` when the address cannot be had."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    sock = socket.create_server(address, family=family, backlog=BACKLOG, reuse_port=False)
    # Accepted connections inherit both options. asyncio sets the first only on sockets whose protocol number is TCP's
    # own, not on ours; without it a short reply's second packet waits 40 ms for the first one's acknowledgement.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT)
    return sock


def make_server(app: ASGIApp, max_headers: int, header_timeout: float, trusted_proxies: list[str]) -> Server:
    """A server for ``app``; give ``serve`` the socket."""
    return Server(
        uvicorn.Config(
            app,
            http=protocol(max_headers, header_timeout),
            ws="none",
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=bool(trusted_proxies),
            forwarded_allow_ips=trusted_proxies,
            timeout_keep_alive=KEEP_ALIVE,
            timeout_graceful_shutdown=1,
        )
    )
