"""HTTP on one connection: uvicorn's protocol under the states and deadlines of :mod:`gateway.http.connection`."""

import re
import uuid
from asyncio import Handle, TimerHandle, Transport
from collections.abc import Iterator
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from fleet import logs
from gateway.errors import GatewayError, NotHttp
from gateway.faces import listed
from gateway.http import http10, proxy_protocol
from gateway.http.connection import UNPARSED, Bounds, Connection, Event, State, Verdict, headers_too_large
from gateway.http.intake import Flow
from gateway.http.wire import EXTENSION, Wire

log = logs.logger("gateway.http")

# A valid Host, by RFC 9110 and RFC 3986.
HOST = re.compile(rb"[A-Za-z0-9._~%!$&'()*+,;=:\[\]-]*")

NO_UPGRADE = frozenset({b"upgrade", b"http2-settings"})
"""Headers that ask for another protocol. This server speaks no other, and serves the request without them."""

HTTP2 = b"PRI * HTTP/2."
"""What a client sends first that takes for granted that a server speaks HTTP/2."""

HTTP1_ONLY = "this server speaks HTTP/1.1: have the client speak it too, or a proxy in front of this server"

PROBES = (0.0, 0.002, 0.01, 0.04, 0.15, 0.6, 3.0, 15.0)
"""Seconds between the probes of a client that has closed its sending side. The reset of one that is gone comes within a
round trip, on the same machine before the second probe, and the next probe notices it. Whoever is there after all of
them waits for its answer."""


class Pipelined(Exception):
    """A request begins while the one before is served; it is not parsed."""


class Protocol(HttpToolsProtocol):
    """Serves one request at a time within ``bounds``, and refuses what is no request with an error in our shape.

    Connections to ``proxy_port`` begin with a PROXY header. Responses find a :class:`gateway.http.wire.Wire` in
    their scope. It has 14 attributes because uvicorn's are among them, besides one of each part.
    """

    raw: Transport
    header: proxy_protocol.Header | None = None
    """What the proxy in front says before anything else, while it is awaited."""
    flow: Flow
    wire: Wire
    connection: Connection
    timer: TimerHandle
    prober: Handle | None = None
    wakes_at: float
    head_bytes = 0

    def __init__(self, bounds: Bounds, proxy_port: int | None, *args: Any, **given: Any) -> None:
        self.parts: list[bytes] = []
        """Of a body, found since the last of them were handed on: there may be one in six bytes."""
        self.on_body = self.parts.append  # type: ignore[assignment]  # the parser, made next, calls what it finds here
        super().__init__(*args, **given)
        self.bounds = bounds
        self.proxy_port = proxy_port

    # ------------------------------------------------------------ the connection

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.raw = transport
        self.flow = Flow(transport)
        self.transport = self.wire = Wire(transport, self.flow, self.finish, self.is_closing)
        if self.server is not None and self.server[1] == self.proxy_port:
            self.header = proxy_protocol.Header()
        self.connection = Connection(self.bounds, self.loop.time(), proxied=self.header is not None)
        self.wake_at(self.connection.deadline)

    def connection_lost(self, exc: Exception | None) -> None:
        self.connection.lost()
        self.timer.cancel()
        if self.prober is not None:
            self.prober.cancel()
        super().connection_lost(exc)

    def eof_received(self) -> bool:  # type: ignore[override]
        """The client sends no more: it has left, or has only closed its sending side and waits for its answer.

        Both look alike until something is written. Returns whether the transport stays open.
        """
        if self.connection.move(Event.EOF, self.loop.time()) is State.ANSWERING:
            self.cycle.keep_alive = False
            # Not at once: what is written now leaves the process only with the second probe.
            self.prober = self.loop.call_soon(self.probe, iter(PROBES))
            return True
        self.disconnect()
        self.end()
        return False

    def probe(self, pauses: Iterator[float]) -> None:
        if self.connection.is_running:
            self.wire.probe(self.cycle.response_started)
            pause = next(pauses, None)
            self.prober = None if pause is None else self.loop.call_later(pause, self.probe, pauses)

    def data_received(self, data: bytes) -> None:
        try:
            if self.header is not None and not (data := self.after_header(self.header, data)):
                return
            if self.connection.state is State.WAITING and data.startswith(HTTP2):
                raise NotHttp("http2_not_spoken", HTTP1_ONLY, status=505)
            if self.connection.state not in UNPARSED:
                self.parse(data)
            if not self.connection.count(len(data)):
                self.drop("discarded_too_much")
        except GatewayError as error:
            self.refuse(error)
        if self.connection.state is State.LAST:
            self.cycle.keep_alive = False  # what follows the request is discarded, so no other can be read
        self.watch()

    def after_header(self, header: proxy_protocol.Header, data: bytes) -> bytes:
        """What follows the PROXY header in ``data``. Once it is complete, its client is the connection's."""
        try:
            rest = header.feed(data)
        except NotHttp:
            self.header = None
            raise
        if rest is None:
            return b""
        self.header = None
        self.client = header.client or self.client
        self.connection.move(Event.PROXIED, self.loop.time())
        return rest

    def parse(self, data: bytes) -> None:
        try:
            skipped = self.feed(data)
            if skipped is not None:
                head = self.head_without_upgrade()
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
                self.parser.feed_data(head)
                self.parser.feed_data(skipped)
            self.take_body()
        except httptools.HttpParserError as error:
            cause = error.__context__  # what one of our callbacks raised
            if not isinstance(cause, Pipelined):
                invalid = NotHttp("invalid_http", "this is no valid HTTP request")
                raise cause if isinstance(cause, GatewayError) else invalid from None

    def feed(self, data: bytes) -> memoryview | None:
        """Feed the parser, which stops after headers that ask for an upgrade; returns what follows them."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            return memoryview(data)[upgrade.args[0] :]
        return None

    def head_without_upgrade(self) -> bytes:
        method = self.parser.get_method()
        if method == b"CONNECT":
            allowed = {"allow": "GET, HEAD, OPTIONS, POST"}
            raise NotHttp("not_allowed", "CONNECT: this server opens no tunnels", status=405, headers=allowed)
        version = self.parser.get_http_version().encode()
        fields = b"".join(b"%b: %b\r\n" % field for field in self.headers if field[0] not in NO_UPGRADE)
        return b"%b %b HTTP/%b\r\n%b\r\n" % (method, self.url, version, fields)

    # ------------------------------------------------------------ what the parser finds

    def on_message_begin(self) -> None:
        if self.connection.move(Event.BEGIN, self.loop.time()) is not State.HEAD:
            raise Pipelined
        super().on_message_begin()
        self.head_bytes = 0
        self.scope["extensions"] = {EXTENSION: self.wire}  # type: ignore[dict-item]

    def on_url(self, url: bytes) -> None:
        self.count_head(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.connection.state is State.HEAD:
            self.count_head(len(name) + len(value))
            super().on_header(name, value.rstrip(b" \t"))  # what stands behind a value is not part of it
        # Else it is a trailer, which must not become one of the headers that the application already has.

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade():
            return  # the parser stops here
        hosts = [value for name, value in self.headers if name == b"host"]
        if len(hosts) > 1 or not (hosts or self.parser.get_http_version() == "1.0"):
            raise NotHttp("invalid_http", "host: a request must have this header exactly once")
        if hosts and not HOST.fullmatch(hosts[0]):
            raise NotHttp("invalid_http", "host: this header's value is not valid")
        super().on_headers_complete()
        self.connection.move(Event.HEAD_END, self.loop.time())
        if self.flow.write_paused:  # the client has not read the answer before
            self.pause_writing()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        if self.parser.get_http_version() == "1.0":
            cycle.keep_alive = self.parser.should_keep_alive()
            app = http10.unchunked(app, cycle, self.wire)
        super()._start_asgi_task(cycle, app)

    def take_body(self) -> None:
        """Hand on what was found of the body."""
        if self.parts:
            body = b"".join(self.parts)
            self.parts.clear()
            self.connection.payload(len(body))
            super().on_body(body)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        self.take_body()
        super().on_message_complete()
        self.connection.move(Event.MESSAGE_END, self.loop.time())

    def count_head(self, size: int) -> None:
        self.head_bytes += size
        if self.head_bytes > self.bounds.max_headers:
            raise headers_too_large(self.bounds.max_headers)

    # ------------------------------------------------------------ the answer

    def pause_writing(self) -> None:
        super().pause_writing()
        self.connection.pause(self.loop.time(), self.wire.unsent())
        self.watch()

    def resume_writing(self) -> None:
        super().resume_writing()
        self.connection.resume()

    def on_response_complete(self) -> None:
        self.cycle.body = bytearray()  # what was not read: it would be kept for as long as the connection lasts
        self.server_state.total_requests += 1
        self.connection.move(Event.ANSWERED, self.loop.time())
        if not self.is_closing():
            self.flow.resume_reading()
            self.watch()

    def refuse(self, error: GatewayError) -> None:
        """Answer what the application never sees, and close.

        Nothing is written after an answer that has begun, or that was given before its request ended: the client would
        read it as a part of that answer, or as the answer to its next request.
        """
        request_id = uuid.uuid4().hex
        began = self.connection.is_running and self.cycle.response_started
        answered = began or self.connection.state is State.DISCARDING
        client = {"client": self.client[0]} if self.client else {}
        status = 0 if answered else error.status
        log.info("request refused", request=request_id, **client, code=error.code, status=status)
        if began:
            self.disconnect()
            self.end()
            self.raw.close()
            return
        if not answered:
            answer = listed.refusal(error, request_id)
            fields = [*answer.raw_headers, (b"x-request-id", request_id.encode()), (b"connection", b"close")]
            head = b"".join(b"%b: %b\r\n" % field for field in fields)
            self.raw.write(STATUS_LINE[error.status] + head + b"\r\n" + bytes(answer.body))
        self.disconnect()
        self.finish()

    def disconnect(self) -> None:
        """Tell the application, if it serves a request, that the client has gone; it can write no more."""
        if self.connection.is_running:
            self.cycle.disconnected = True
            self.cycle.message_event.set()

    # ------------------------------------------------------------ the end

    def end(self) -> bool:
        """Serve nothing more on the connection. Returns whether its client may still be sending."""
        sends = self.connection.close(self.loop.time(), self.raw.get_write_buffer_size())
        self.watch()
        return sends

    def finish(self) -> None:
        """Close once everything is written and a client that still sends has had time to read it."""
        if self.end() and not self.raw.is_closing():
            self.raw.write_eof()
            self.flow.resume_reading()
        else:
            self.raw.close()

    def is_closing(self) -> bool:
        return self.connection.state is State.CLOSING or self.raw.is_closing()

    def shutdown(self) -> None:
        """Close as soon as no request is served, which may be at once: the server calls it when it ends."""
        if self.connection.is_running:
            self.cycle.keep_alive = False
        else:
            self.end()
            self.raw.close()

    # ------------------------------------------------------------ time

    def watch(self) -> None:
        if self.connection.deadline < self.wakes_at:
            self.timer.cancel()
            self.wake_at(self.connection.deadline)

    def wake_at(self, when: float) -> None:
        self.wakes_at = when
        self.timer = self.loop.call_at(when, self.expire)

    def expire(self) -> None:
        """The timer fired: act if the deadline has come, else set the timer again."""
        state = self.connection.state
        verdict = self.connection.expire(self.loop.time(), self.wire.unsent())
        if verdict is Verdict.ABORT:
            begun = state not in (State.PROXY, State.WAITING, State.HEAD)
            self.drop("connection_timeout" if begun else "header_timeout")
            return
        if verdict is Verdict.CLOSE:
            self.raw.close()
        self.wake_at(self.connection.deadline)

    def drop(self, code: str) -> None:
        event = "connection without a request" if code == "header_timeout" else "connection dropped"
        log.info(event, code=code, state=self.connection.state.name.lower())
        self.disconnect()
        self.connection.lost()
        self.raw.abort()
