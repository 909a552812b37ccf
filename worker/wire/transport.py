"""The httpx2 transport on our connections: it keeps them for the next request, and pushes bodies to consumers.

httpx2's and aiohttp's own transports pass each token through a dozen layers and arm a timer for it, which costs more
than all else that happens to it on its way to the client. Proxies are left to aiohttp, redirects and decompression to
:mod:`worker.wire.answers`.
"""

import asyncio
import socket
from collections import deque
from collections.abc import AsyncIterator

import httpx2
from aiohappyeyeballs import start_connection

from worker.wire.connection import LENGTH, Connection, Consumer, Origin
from worker.wire.pacer import Pacer
from worker.wire.tls import handshake

BODY = "chatfleet.body"
"""Extension of a response that has its :class:`Body`, past httpx2's layers."""

UNREAD = 64 * 1024
"""Bytes of a body that wait for :meth:`Body.__aiter__`; beyond them its sender must wait."""

IDLE = 15.0
"""Seconds for which a connection is kept for the next request: less than servers keep theirs."""

TAIL = 1.0
"""Seconds to wait for the end of a response whose content is complete, so that its connection can be kept."""


class Body(httpx2.AsyncByteStream):
    """A response's body: pushed to a consumer, or read through httpx2. It may be paused as a producer of a sink."""

    def __init__(self, connection: Connection, transport: "Transport") -> None:
        self._connection = connection
        self._transport = transport
        self._is_open = True

    def deliver_to(self, consumer: Consumer) -> None:
        """Push the body to ``consumer``."""
        if self._is_open:
            self._connection.deliver_to(consumer)

    def pause_reading(self) -> None:
        """Deliver nothing until :meth:`resume_reading`."""
        if self._is_open:
            self._connection.pause_reading()

    def resume_reading(self) -> None:
        """Deliver again."""
        if self._is_open:
            self._connection.resume_reading()

    def pace(self, pacer: Pacer) -> None:
        """Read when ``pacer`` says from now on."""
        if self._is_open:
            self._connection.pace(pacer)

    def content_ended(self) -> None:
        """The content says that it is complete: the connection is kept if the response's end follows soon."""
        if self._is_open:
            self._is_open = False
            self._transport.await_end(self._connection)

    async def aclose(self) -> None:
        """Give the connection back: it is kept if the response is complete, and closed otherwise."""
        if self._is_open:
            self._is_open = False
            self._transport.keep(self._connection)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        reader = _Reader(self)
        self.deliver_to(reader)
        while data := await reader.read():
            yield data


class _Reader:
    """A consumer that is read from."""

    def __init__(self, body: Body) -> None:
        self._body = body
        self._received: deque[bytes] = deque()
        self._unread = 0
        self._is_complete = False
        self._error: Exception | None = None
        self._changed = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        self._received.append(data)
        self._unread += len(data)
        if self._unread > UNREAD:
            self._body.pause_reading()
        self._changed.set()

    def eof_received(self) -> None:
        self._is_complete = True
        self._changed.set()

    def failed(self, error: httpx2.TransportError) -> None:
        self._error = error
        self._changed.set()

    async def read(self) -> bytes:
        """Some of the body; nothing at its end."""
        while not self._received:
            if self._error is not None:
                raise self._error
            if self._is_complete:
                return b""
            self._body.resume_reading()
            self._changed.clear()
            await self._changed.wait()
        data = self._received.popleft()
        self._unread -= len(data)
        return data


class Transport(httpx2.AsyncBaseTransport):
    """Keeps connections for ``idle`` seconds; the worker's capacity bounds how many there are."""

    def __init__(self, idle: float = IDLE, tail: float = TAIL) -> None:
        self._tls = httpx2.create_ssl_context()
        self._idle_timeout = idle
        self._tail_timeout = tail
        self._idle: dict[Origin, dict[Connection, asyncio.TimerHandle]] = {}
        self._ending: dict[Connection, asyncio.TimerHandle] = {}

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send ``request``; return when its response's head is there. Raises ``httpx2.TransportError``.

        A connection that was kept, and that its server closed just when the request was sent, is replaced once.
        """
        assert isinstance(request.stream, httpx2.AsyncByteStream)
        data = _encode(request, b"".join([part async for part in request.stream]))
        timeouts = request.extensions.get("timeout", {})
        origin = _origin(request.url, request.extensions.get("sni_hostname"))
        kept = self._find_idle(origin)
        if kept is not None:
            try:
                return await self._ask(kept, data, timeouts)
            except httpx2.ReadError:
                if not kept.is_unanswered:
                    raise
        return await self._ask(await self._connect(origin, timeouts.get("connect")), data, timeouts)

    async def reach(self, url: httpx2.URL, timeout: float) -> None:
        """Connect to the server of ``url``, with TLS if it has that. Raises ``httpx2.TransportError``."""
        (await self._connect(_origin(url), timeout)).close()

    async def _ask(self, connection: Connection, data: bytes, timeouts: dict[str, float | None]) -> httpx2.Response:
        try:
            response = await connection.ask(data, timeouts.get("read"))
        except BaseException:
            self.keep(connection)
            raise
        body = Body(connection, self)
        extensions = {"http_version": b"HTTP/1.1", BODY: body}
        return httpx2.Response(response.status, headers=response.headers, stream=body, extensions=extensions)

    async def aclose(self) -> None:
        """Close the connections that are not in use."""
        for connections in [self._ending, *self._idle.values()]:
            for connection, timer in connections.items():
                timer.cancel()
                connection.close()
            connections.clear()

    # ------------------------------------------------------------ keeping connections

    def keep(self, connection: Connection) -> None:
        """Keep a connection for the next request, if its response is complete."""
        if connection.release():
            timer = asyncio.get_running_loop().call_later(self._idle_timeout, self._drop, connection)
            self._idle.setdefault(connection.origin, {})[connection] = timer

    def await_end(self, connection: Connection) -> None:
        """Keep a connection once its response is complete, or close it after a while."""
        loop = asyncio.get_running_loop()
        self._ending[connection] = loop.call_later(self._tail_timeout, self._ended, connection)
        connection.pace(None)
        connection.deliver_to(_Tail(connection, self))

    def _ended(self, connection: Connection) -> None:
        self._ending.pop(connection).cancel()
        self.keep(connection)

    def _find_idle(self, origin: Origin) -> Connection | None:
        connections = self._idle.get(origin, {})
        while connections:
            connection, timer = connections.popitem()
            timer.cancel()
            if connection.is_open:
                return connection
            connection.close()
        return None

    def _drop(self, connection: Connection) -> None:
        del self._idle[connection.origin][connection]
        connection.close()

    async def _connect(self, origin: Origin, timeout: float | None) -> Connection:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout):
                addresses = await loop.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
                sock = await start_connection(addresses, happy_eyeballs_delay=0.25)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return Connection(origin, await handshake(self._tls, sock, origin.name) if origin.tls else sock)
        except TimeoutError as error:
            raise httpx2.ConnectTimeout(f"no connection to {origin.host} in time") from error
        except OSError as error:
            raise httpx2.ConnectError(str(error)) from error


class _Tail:
    """Consumes the end of a response whose content is complete."""

    def __init__(self, connection: Connection, transport: Transport) -> None:
        self._connection = connection
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._connection.close()  # content after its end
        self._transport._ended(self._connection)

    def eof_received(self) -> None:
        self._transport._ended(self._connection)

    def failed(self, error: httpx2.TransportError) -> None:
        self._transport._ended(self._connection)


def _origin(url: httpx2.URL, name: str | None = None) -> Origin:
    if url.scheme not in ("http", "https"):
        raise httpx2.UnsupportedProtocol("only http and https are spoken")
    tls = url.scheme == "https"
    return Origin(tls, url.host, url.port or (443 if tls else 80), name or url.host)


def _encode(request: httpx2.Request, body: bytes) -> bytes:
    lines = [b"%b %b HTTP/1.1\r\n" % (request.method.encode(), request.url.raw_path)]
    lines.extend(b"%b: %b\r\n" % (name, value) for name, value in request.headers.raw if name.lower() not in LENGTH)
    return b"%bcontent-length: %d\r\n\r\n%b" % (b"".join(lines), len(body), body)
