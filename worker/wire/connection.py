"""One HTTP/1.1 connection to a model's server, and the response on it, which is pushed to a consumer.

The connection owns its socket: asyncio's transports read as soon as something arrives, and a paced stream is read once
in a slot (:mod:`worker.wire.pacer`).
"""

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import NamedTuple, Protocol

import httptools
import httpx2

from worker.contract.errors import BadAnswer
from worker.wire.pacer import Pacer

READ = 32 * 1024
"""Bytes that one reading takes from a socket: what a consumer decodes in one turn of the loop, in 10 ms at most."""

FRAMING = 64 * 1024
"""Bytes that may arrive without a byte of the body: status line, headers and 1xx responses before it, sizes and
extensions of chunks within it, trailers after it. Servers limit the headers of requests to 8 to 64 KiB."""

HEADERS = 256
"""Headers of a response; clients' own limits are 100 to 256."""

LENGTH = (b"content-length", b"transfer-encoding")
"""Headers that say where a body ends."""

_NOT_YET = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)

_buffer = memoryview(bytearray(READ))
"""Shared by all connections: the parser copies what it keeps."""


class Consumer(Protocol):
    """Takes a response's body as it arrives. No method may raise."""

    def data_received(self, data: bytes) -> None:
        """Some of the body, at most :data:`READ` bytes."""

    def eof_received(self) -> None:
        """The body is complete. Nothing else follows."""

    def failed(self, error: httpx2.TransportError) -> None:
        """The body will not be complete. Nothing else follows."""


class Origin(NamedTuple):
    """Where connections lead to; those of one origin are interchangeable."""

    tls: bool
    host: str
    port: int
    name: str
    """What the server's certificate must be for."""


class Response:
    """One response, as httptools parses it: methods named ``on_…`` are called by its parser."""

    def __init__(self) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.has_head = False
        self.is_complete = False
        self.is_over = False
        """Whether nothing more is to be read: it is complete, or failed."""
        self.error: httpx2.TransportError | None = None
        self.consumer: Consumer | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._keeps_alive = False
        self._body: list[bytes] = []
        """What was parsed of the body and is not delivered."""
        self._framing = 0
        """Bytes received since the last byte of the body."""

    @property
    def status(self) -> int:
        return int(self._parser.get_status_code())

    @property
    def is_reusable(self) -> bool:
        """Whether its connection can take another request."""
        return self._keeps_alive and not self._body

    @property
    def is_untouched(self) -> bool:
        return not self.has_head and not self._framing

    def feed(self, data: memoryview) -> None:
        self._framing += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self.fail(httpx2.RemoteProtocolError(str(error)))
        if self._framing > FRAMING:
            part = "trailers or between its chunks" if self.has_head else "headers"
            self.fail(BadAnswer(f"the model's server sent more than {FRAMING:,} bytes of {part}"))

    def hung_up(self) -> None:
        if self.has_head and not any(name.lower() in LENGTH for name, _ in self.headers):
            self.is_complete = self.is_over = True  # such a body ends with its connection
        self.fail(httpx2.ReadError("the connection was closed before the response was complete"))

    def fail(self, error: httpx2.TransportError) -> None:
        """Note what went wrong. A response that is complete stays so, but its connection is not used again."""
        self._keeps_alive = False
        if not self.is_over:
            self.error = error
            self.is_over = True

    def deliver(self) -> None:
        """Give the consumer what was parsed: the body first, then its end."""
        consumer = self.consumer
        if consumer is None:
            return
        if self._body:
            data = self._body[0] if len(self._body) == 1 else b"".join(self._body)
            self._body.clear()
            consumer.data_received(data)
        if self.is_over and self.consumer is consumer:
            self.consumer = None
            if self.is_complete:
                consumer.eof_received()
            else:
                assert self.error is not None
                consumer.failed(self.error)

    def on_message_begin(self) -> None:
        if self.is_complete:
            raise ValueError("more was received than the response to the request")

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.has_head:  # a trailer
            return
        self.headers.append((name, value))
        if len(self.headers) > HEADERS:
            self.fail(BadAnswer(f"the model's server sent more than {HEADERS} headers"))

    def on_headers_complete(self) -> None:
        if self.status < 200:
            self.headers.clear()  # 100 Continue and its like: the response is yet to come
        else:
            self.has_head = True

    def on_body(self, body: bytes) -> None:
        self._framing = 0
        self._body.append(body)

    def on_message_complete(self) -> None:
        if self.has_head:
            self.is_complete = self.is_over = True
            self._keeps_alive = self._parser.should_keep_alive() and self.error is None


class Connection:
    """Sends one request at a time and reads its response.

    Fails with ``httpx2.ReadTimeout`` when nothing was received for the request's read timeout while it was reading,
    ``httpx2.ReadError`` when the connection broke, ``httpx2.RemoteProtocolError`` for anything that is not HTTP/1.1,
    and :class:`BadAnswer` beyond a limit.
    """

    def __init__(self, origin: Origin, sock: socket.socket) -> None:
        self.origin = origin
        self._loop = asyncio.get_running_loop()
        self._sock = sock
        self._fd = sock.fileno()
        self._response = Response()
        self._sent = False
        self._unwatch: Callable[[int], object] | None = None
        """Stops the notifications that the socket can be read; None while reading is paused."""
        self._pacer: Pacer | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._timeout: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._heard_at = 0.0

    async def ask(self, request: bytes, timeout: float | None) -> Response:
        """Send a request; return its response once the head is there. Reading is paused until :meth:`deliver_to`."""
        response = self._response = Response()
        self._sent = False
        self._pacer = None
        self._timeout = timeout
        self._heard_at = self._loop.time()
        if timeout is not None:
            self._timer = self._loop.call_later(timeout, self._check_silence)
        self._watch()
        await self._send(memoryview(request), response)
        while not response.has_head and response.error is None:
            await self._wait()
        if response.error is not None and (not response.has_head or isinstance(response.error, BadAnswer)):
            raise response.error
        return response

    def deliver_to(self, consumer: Consumer) -> None:
        """Push the body to ``consumer`` from now on, instead of any other."""
        self._response.consumer = consumer
        self.resume_reading()
        self._response.deliver()

    def pause_reading(self) -> None:
        """Read nothing: the server must wait, and its silence does not count."""
        if self._unwatch is not None:
            self._unwatch(self._fd)
            self._unwatch = None

    def resume_reading(self) -> None:
        """Read again, unless the response is over."""
        if self._unwatch is None and not self._response.is_over:
            self._heard_at = self._loop.time()
            self._watch()

    def pace(self, pacer: Pacer | None) -> None:
        """Read when ``pacer`` says; None reads as soon as something arrives."""
        if pacer is not self._pacer:
            self._pacer = pacer
            if self._unwatch is not None:
                self.pause_reading()
                self._watch()

    def release(self) -> bool:
        """End the request. True when the connection can take another one; otherwise it is closed."""
        if self._sent and self._response.is_reusable:
            self._stop_timer()
            return True
        self.close()
        return False

    def close(self) -> None:
        """Close the connection at once. The response's consumer is not told."""
        self._stop_timer()
        self.pause_reading()
        self._response.consumer = None
        self._response.fail(httpx2.ReadError("the connection was closed"))
        self._sock.close()

    @property
    def is_open(self) -> bool:
        """Whether a connection that waits for its next request is still open, with nothing to read on it."""
        try:
            self._sock.recv(1)
        except _NOT_YET:
            return True
        except OSError:
            return False
        return False

    @property
    def is_unanswered(self) -> bool:
        """Whether no byte of a response to the last request was received."""
        return self._response.is_untouched

    async def _send(self, left: memoryview, response: Response) -> None:
        """Send a request, or as much of it as its server wants: one that refuses it need not read all of it."""
        while left and response.error is None and not _is_refusal(response):
            try:
                left = left[self._sock.send(left) :]
                self._heard_at = self._loop.time()  # a server that reads is not silent
            except ssl.SSLWantReadError:  # the server renews the session's keys, which reading deals with
                await asyncio.sleep(0.01)
            except _NOT_YET:
                self._loop.add_writer(self._fd, self._wake)
                try:
                    await self._wait()
                finally:
                    self._loop.remove_writer(self._fd)
            except OSError:
                return  # there may be an answer to read, which says why
        self._sent = not left

    async def _wait(self) -> None:
        self._waiter = self._loop.create_future()
        await self._waiter

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _watch(self) -> None:
        if self._pacer is not None:
            self._pacer.add(self._fd, self._readable)
            self._unwatch = self._pacer.remove
        else:
            self._loop.add_reader(self._fd, self._readable)
            self._unwatch = self._loop.remove_reader

    def _readable(self) -> bool:
        """Read and deliver what has arrived. False when the response is over, so that a task has to go on."""
        response = self._response
        try:
            self._receive(response)
        except OSError as error:
            response.fail(httpx2.ReadError(str(error)))
        self._deliver(response)
        if self._pacer is None and self._unwatch is not None:  # uvloop calls once for a reset, whatever is left to read
            self._unwatch(self._fd)
            self._watch()
        return not response.is_over

    def _receive(self, response: Response) -> None:
        received = 0
        while not response.is_over:
            try:
                size = self._sock.recv_into(_buffer)
            except _NOT_YET:
                return
            if not size:
                response.hung_up()
                return
            self._heard_at = self._loop.time()
            response.feed(_buffer[:size])
            received += size
            # TLS gives one record at a time, of up to 16 KiB: read on while another one fits.
            if not self.origin.tls or received > READ // 2:
                return

    def _deliver(self, response: Response) -> None:
        if response.is_over or (response.has_head and response.consumer is None):
            self.pause_reading()
        if response.consumer is not None:
            response.deliver()
        else:
            self._wake()

    def _check_silence(self) -> None:
        """Fail after the read timeout. One timer a request costs less than one for all that arrives."""
        assert self._timeout is not None
        left = self._heard_at + self._timeout - self._loop.time()
        if self._unwatch is None and self._sent:  # paused: silence counts from when reading resumes
            left = self._timeout
        if left > 0:
            self._timer = self._loop.call_later(left, self._check_silence)
        else:
            self._timer = None
            self._response.fail(httpx2.ReadTimeout("nothing was received in time"))
            self._deliver(self._response)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _is_refusal(response: Response) -> bool:
    return response.is_complete or (response.has_head and response.status >= 300)
