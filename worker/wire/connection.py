"""HTTP/1.1 to a model's server: a transport for the OpenAI SDK whose cost for each token is small.

httpx2's and aiohttp's own take a token through a dozen of layers and arm a timer for it; that costs more than all else
that happens to it on its way to the client. What this leaves to others: proxies, and to :mod:`worker.wire.answers`
redirects and decompression. It has sockets of its own, because what the event loop wraps around one reads whenever
something comes: see :mod:`worker.wire.pacer`.
"""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any, NamedTuple

import httptools
import httpx2
from aiohappyeyeballs import start_connection

from worker.wire.pacer import Pacer

BODY = "chatfleet.body"
"""Extension of a response that has the :class:`Connection` to read its body from, past httpx2's layers."""

UNREAD = 64 * 1024
"""Bytes that are taken from a connection before they are read; then its sender must wait."""

IDLE = 15.0
"""Seconds for which a connection is kept for the next request: less than servers keep theirs."""

TAIL = 1.0
"""Seconds in which the end of a body may come whose content is complete: then the connection can be kept."""

FRAMING = 64 * 1024
"""Bytes that may come without a byte of the body: status line, headers and all 1xx responses before them; in a body the
chunks' sizes and extensions; after it the trailers. Servers' own limits for a head are 8 to 64 KiB."""

HEADERS = 256
"""Headers of a response; clients' own limits are 100 to 256."""

_LENGTH = (b"content-length", b"transfer-encoding")

Tap = Callable[[bytes], bool]

_NOT_YET = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)

_buffer = memoryview(bytearray(64 * 1024))
"""What every connection reads into: the parser copies what it keeps."""


class BadAnswer(httpx2.RemoteProtocolError):
    """A model's server passed a bound, or answered what cannot be used; its text is a sentence for the user."""


class Origin(NamedTuple):
    """Where connections lead to; those of one origin are interchangeable."""

    tls: bool
    host: str
    port: int
    name: str
    """What the server's certificate must be for."""


class Connection:
    """One connection: a request at a time, and its response's head and body.

    Raises ``httpx2.ReadTimeout`` when nothing came for the request's read timeout, ``httpx2.ReadError`` when the
    connection broke, ``httpx2.RemoteProtocolError`` for what is no HTTP, :class:`BadAnswer` beyond a bound.
    """

    def __init__(self, origin: Origin, sock: socket.socket) -> None:
        self.origin = origin
        self.idle: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._sock = sock
        self._fd = sock.fileno()
        self._unwatch: Callable[[int], object] | None = None
        """How to stop being told that something can be read; None when nobody tells."""
        self._pacer: Pacer | None = None
        self._tap: Tap | None = None
        self._reader: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._begin(None)

    def _begin(self, timeout: float | None) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._timeout = timeout
        self._heard_at = self._loop.time()
        self._headers: list[tuple[bytes, bytes]] = []
        self._chunks: list[bytes] = []
        self._unread = 0
        self._framing = 0
        """Bytes that came since the last byte of the body."""
        self._has_head = self._sent = self._complete = self._reusable = False
        self._pacer = self._tap = None
        self._said_all = False
        self._ended: Callable[[], None] | None = None
        self._error: httpx2.TransportError | None = None

    # ------------------------------------------------------------ the request

    async def ask(self, request: bytes, timeout: float | None) -> tuple[int, list[tuple[bytes, bytes]]]:
        """Send a request; return the status and the headers of its response."""
        self._begin(timeout)
        if timeout is not None:
            self._timer = self._loop.call_later(timeout, self._look)
        self._watch()
        await self._send(memoryview(request))
        while not self._has_head:
            await self._wait()
        if isinstance(self._error, BadAnswer):
            raise self._error
        return self._parser.get_status_code(), self._headers

    async def read(self) -> bytes:
        """What has come of the body, at least a byte; nothing at its end."""
        while not self._chunks:
            if self._complete:
                return b""
            await self._wait()
        data = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        self._unread = 0
        self._heard_at = self._loop.time()  # silence while nobody read was not the server's
        if self._unwatch is None and not self._complete and self._error is None:
            self._watch()
        return data

    def pace(self, pacer: Pacer, tap: "Tap | None" = None) -> None:
        """Read what comes from now on when ``pacer`` says, and no more as soon as it comes.

        While somebody waits in :meth:`read`, ``tap`` is asked first to take what one reading brought of the body. It
        takes all of that and returns true, or nothing; then :meth:`read` gives it. What it raises, :meth:`read` raises.
        """
        if self._pacer is None:
            self._pacer = pacer
            self._tap = tap
            if self._unwatch is not None:
                self._rest()
                self._watch()

    def say_all(self) -> None:
        """The body's content is complete by what it says itself; of the response only its end may be yet to come."""
        self._said_all = True

    def await_tail(self, ended: Callable[[], None]) -> bool:
        """Have ``ended`` called when the response's end has come or will not come; false if that is no matter."""
        if not self._said_all or self._complete or self._error is not None or not self._sent or self._chunks:
            return False
        self._stop_timer()
        self._rest()
        self._pacer = self._tap = None
        self._watch()
        self._ended = ended
        self._timer = self._loop.call_later(TAIL, ended)
        return True

    def finish(self) -> bool:
        """The response is read, or not wanted any more. True when the connection can take another request."""
        self._stop_timer()
        if self._reusable and self._sent and not self._chunks:
            return True
        self.close()
        return False

    def close(self) -> None:
        """Close the connection at once."""
        self._stop_timer()
        self._rest()
        self._sock.close()

    @property
    def lives(self) -> bool:
        """Whether a connection that waits for its next request is still open, and nothing was said on it."""
        try:
            self._sock.recv(1)
        except _NOT_YET:
            return True
        except OSError:
            return False
        return False

    @property
    def is_unanswered(self) -> bool:
        """Whether not a byte of a response to the last request has come."""
        return not self._has_head and not self._framing

    async def _send(self, left: memoryview) -> None:
        """Send a request, or as much of it as its server wants: one that refuses it need not read all."""
        while left and not self._is_answered() and self._error is None:
            try:
                left = left[self._sock.send(left) :]
                self._heard_at = self._loop.time()  # it takes what we send
            except ssl.SSLWantReadError:  # the server renews the session's keys: reading deals with it
                await asyncio.sleep(0.01)
            except _NOT_YET:
                self._loop.add_writer(self._fd, self._wake)
                try:
                    await self._wait()
                finally:
                    self._loop.remove_writer(self._fd)
            except OSError:
                return  # reading tells what there is to tell, which may be an answer
        self._sent = not left

    def _is_answered(self) -> bool:
        return self._complete or (self._has_head and self._parser.get_status_code() >= 300)

    async def _wait(self) -> None:
        if self._error is not None:
            raise self._error
        self._reader = self._loop.create_future()
        await self._reader

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wake(self) -> None:
        if self._ended is not None:
            self._loop.call_soon(self._ended)
            self._ended = None
        elif self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def _fail(self, error: httpx2.TransportError) -> None:
        self._rest()
        self._reusable = False
        if self._error is None and not self._complete:
            self._error = error
            self._wake()

    def _look(self) -> None:
        """Whether the read timeout has passed: one timer a request, and not one for all that comes."""
        assert self._timeout is not None
        left = self._heard_at + self._timeout - self._loop.time()
        if left <= 0 and not self._chunks:
            self._fail(httpx2.ReadTimeout("nothing was received in time"))
        else:
            self._timer = self._loop.call_later(max(left, 1.0), self._look)

    # ------------------------------------------------------------ reading

    def _watch(self) -> None:
        if self._pacer is not None:
            self._pacer.add(self._fd, self._readable)
            self._unwatch = self._pacer.remove
        else:
            self._loop.add_reader(self._fd, self._readable)
            self._unwatch = self._loop.remove_reader

    def _rest(self) -> None:
        if self._unwatch is not None:
            self._unwatch(self._fd)
            self._unwatch = None

    def _readable(self) -> bool:
        """Take what has come; whether the tap had all of it."""
        try:
            self._receive()
        except OSError as error:
            self._fail(httpx2.ReadError(str(error)))
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fail(httpx2.RemoteProtocolError(str(error)))
        if self._framing > FRAMING:
            part = "trailers or between its chunks" if self._has_head else "headers"
            self._fail(BadAnswer(f"the model's server sent more than {FRAMING:,} bytes of {part}"))
        if self._complete or self._error is not None:
            return False
        if not self._chunks or self._tapped():
            return True
        self._wake()
        return False

    def _receive(self) -> None:
        """Feed the parser with all that has come: TLS gives a record at a time."""
        while self._unwatch is not None:
            try:
                size = self._sock.recv_into(_buffer)
            except _NOT_YET:
                return
            if not size:
                self._hung_up()
                return
            self._heard_at = self._loop.time()
            self._framing += size
            self._parser.feed_data(_buffer[:size])
            if not self.origin.tls:
                return

    def _hung_up(self) -> None:
        if self._has_head and not self._has_length():
            self._complete = True  # such a body ends with its connection
            self._wake()
        self._fail(httpx2.ReadError("the connection was closed before the response was complete"))

    def _tapped(self) -> bool:
        chunks, reader = self._chunks, self._reader
        if self._tap is None or reader is None or reader.done() or self._complete or self._unread > UNREAD:
            return False
        try:
            if not self._tap(chunks[0] if len(chunks) == 1 else b"".join(chunks)):
                return False
        except Exception as error:
            reader.set_exception(error)
            return False
        chunks.clear()
        self._unread = 0
        return True

    def _has_length(self) -> bool:
        return any(name.lower() in _LENGTH for name, _ in self._headers)

    # ------------------------------------------------------------ what the parser calls

    def on_message_begin(self) -> None:
        if self._complete:
            raise ValueError("more came than the response that was asked for")

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._has_head:  # a trailer
            return
        self._headers.append((name, value))
        if len(self._headers) > HEADERS:
            self._fail(BadAnswer(f"the model's server sent more than {HEADERS} headers"))

    def on_headers_complete(self) -> None:
        if self._parser.get_status_code() < 200:
            self._headers.clear()  # 100 Continue and its like: the response is yet to come
        else:
            self._has_head = True
            self._wake()

    def on_body(self, body: bytes) -> None:
        self._framing = 0
        self._chunks.append(body)
        self._unread += len(body)
        if self._unread > UNREAD:
            self._rest()

    def on_message_complete(self) -> None:
        if self._has_head:
            self._complete = True
            self._reusable = self._parser.should_keep_alive()
            self._rest()
            self._wake()


class _Body(httpx2.AsyncByteStream):
    """A response's body for those who read it through httpx2."""

    def __init__(self, connection: Connection, transport: "Transport") -> None:
        self._connection = connection
        self._transport = transport
        self._closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while data := await self._connection.read():
            yield data

    async def aclose(self) -> None:
        if not self._closed:
            self._closed = True
            self._transport.give_back(self._connection)


class Transport(httpx2.AsyncBaseTransport):
    """Keeps connections for the next request; the worker's capacity bounds how many there are."""

    def __init__(self) -> None:
        self._tls = httpx2.create_ssl_context()
        self._idle: dict[Origin, list[Connection]] = {}
        self._ending: set[Connection] = set()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send ``request``; return when its response's head is there. Raises ``httpx2.TransportError``."""
        body = b"".join([part async for part in _parts(request)])
        return await self.send(request, head_of(request), body)

    async def send(self, request: httpx2.Request, head: bytes, body: bytes) -> httpx2.Response:
        """As :meth:`handle_async_request`, with the ``head`` of a request (:func:`head_of`) and another body.

        A connection that was kept, and that its server closed in the moment of asking, is replaced once.
        """
        timeouts = request.extensions.get("timeout", {})
        origin = _origin(request)
        data = b"%bcontent-length: %d\r\n\r\n%b" % (head, len(body), body)
        kept = self._take(origin)
        if kept is not None:
            try:
                return await self._ask(kept, request, data)
            except httpx2.ReadError:
                if not kept.is_unanswered:
                    raise
        return await self._ask(await self._connect(origin, timeouts.get("connect")), request, data)

    async def _ask(self, connection: Connection, request: httpx2.Request, data: bytes) -> httpx2.Response:
        try:
            status, headers = await connection.ask(data, request.extensions.get("timeout", {}).get("read"))
        except BaseException:
            self.give_back(connection)
            raise
        stream = _Body(connection, self)
        extensions = {"http_version": b"HTTP/1.1", BODY: connection}
        return httpx2.Response(status, headers=headers, stream=stream, extensions=extensions, request=request)

    async def aclose(self) -> None:
        """Close the connections that nobody uses."""
        for connection in self._ending:
            connection.close()
        self._ending.clear()
        for connections in self._idle.values():
            for connection in connections:
                if connection.idle is not None:
                    connection.idle.cancel()
                connection.close()
        self._idle.clear()

    def give_back(self, connection: Connection) -> None:
        """Keep a connection for the next request, or close it: at once, unless only the response's end is missing."""
        if connection.await_tail(partial(self._end, connection)):
            self._ending.add(connection)
        else:
            self._keep(connection)

    def _keep(self, connection: Connection) -> None:
        if connection.finish():
            connection.idle = asyncio.get_running_loop().call_later(IDLE, self._drop, connection)
            self._idle.setdefault(connection.origin, []).append(connection)

    def _end(self, connection: Connection) -> None:
        if connection in self._ending:
            self._ending.remove(connection)
            self._keep(connection)

    def _take(self, origin: Origin) -> Connection | None:
        connections = self._idle.get(origin, [])
        while connections:
            connection = connections.pop()
            assert connection.idle is not None
            connection.idle.cancel()
            if connection.lives:
                return connection
            connection.close()
        return None

    def _drop(self, connection: Connection) -> None:
        self._idle[connection.origin].remove(connection)
        connection.close()

    async def _connect(self, origin: Origin, timeout: float | None) -> Connection:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout):
                addresses = await loop.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
                sock = await start_connection(addresses, happy_eyeballs_delay=0.25)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return Connection(origin, await self._secure(sock, origin.name) if origin.tls else sock)
        except TimeoutError as error:
            raise httpx2.ConnectTimeout(f"no connection to {origin.host} in time") from error
        except OSError as error:
            raise httpx2.ConnectError(str(error)) from error

    async def _secure(self, sock: socket.socket, name: str) -> socket.socket:
        loop = asyncio.get_running_loop()
        secured = self._tls.wrap_socket(sock, server_hostname=name, do_handshake_on_connect=False)
        fd = secured.fileno()
        try:
            while True:
                ready = loop.create_future()
                try:
                    secured.do_handshake()
                    return secured
                except ssl.SSLWantReadError:
                    watch: Callable[..., Any] = loop.add_reader
                    unwatch: Callable[[int], object] = loop.remove_reader
                except ssl.SSLWantWriteError:
                    watch, unwatch = loop.add_writer, loop.remove_writer
                watch(fd, _settle, ready)
                try:
                    await ready
                finally:
                    unwatch(fd)
        except BaseException:
            secured.close()
            raise


def _settle(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


def _origin(request: httpx2.Request) -> Origin:
    url = request.url
    tls = url.scheme == "https"
    return Origin(tls, url.host, url.port or (443 if tls else 80), request.extensions.get("sni_hostname") or url.host)


def head_of(request: httpx2.Request) -> bytes:
    """Request line and headers, each with its line end, but for what tells the body's length."""
    lines = [b"%b %b HTTP/1.1\r\n" % (request.method.encode(), request.url.raw_path)]
    lines.extend(b"%b: %b\r\n" % (name, value) for name, value in request.headers.raw if name.lower() not in _LENGTH)
    return b"".join(lines)


async def _parts(request: httpx2.Request) -> AsyncIterator[bytes]:
    assert isinstance(request.stream, httpx2.AsyncByteStream)
    async for part in request.stream:
        yield part
