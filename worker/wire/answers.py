"""What a worker takes from a model's server: answers whose cost is bounded, of the server that was asked and no other.

A :class:`Bounded` transport stands before the one that talks to the server, for every client whose transport can be
reached (:func:`bound`):

- of an answer that is no success, 64 KiB of the body are read, in 5 s, and the connection is closed if there is more;
- a redirect is followed once, within the same origin (307 and 308); the prompt goes nowhere else;
- answers are asked for without compression. One that is compressed all the same is decoded in small steps, and ends
  when it grows more than a hundredfold;
- with ``lines`` a line, or an event, of the body has at most 4 MiB: for clients that gather them without a bound.

What passes a bound raises :class:`worker.wire.connection.BadAnswer`.
"""

import asyncio
import zlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing

import httpx2

from worker.openai.sse import EVENT_LIMIT
from worker.wire.connection import BODY, BadAnswer, Transport, head_of

ERROR_BYTES = 64 * 1024
"""Bytes that are read of the body of an answer that is no success."""

ERROR_TIME = 5.0
"""Seconds in which they must have come."""

STEP = 32 * 1024
"""Bytes that are decompressed in one turn of the loop."""

FREE = 1024 * 1024
"""Bytes up to which a compressed body may grow by any factor."""

RATIO = 100
"""Factor by which it may grow beyond them; events of one shape compress about twentyfold."""

IDENTITY = {"accept-encoding": "identity"}
"""Compression saves nothing on events of some hundred bytes, and would cost the short way through the worker."""

_REDIRECTS = (307, 308)
_BODY_HEADERS = (b"content-encoding", b"content-length", b"transfer-encoding")

Send = Callable[[httpx2.Request], Awaitable[httpx2.Response]]


class Bounded(httpx2.AsyncBaseTransport):
    """A transport before ``inner``."""

    def __init__(self, inner: httpx2.AsyncBaseTransport, lines: bool = False) -> None:
        self.inner = inner
        self._lines = lines

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send ``request``; raises ``httpx2.TransportError``, and :class:`BadAnswer`, which is one."""
        return await self._ask(request, self.inner.handle_async_request)

    async def send(self, request: httpx2.Request, head: bytes, body: bytes) -> httpx2.Response:
        """The same as :meth:`worker.wire.connection.Transport.send`, of which ``inner`` must be one."""
        inner = self.inner
        assert isinstance(inner, Transport)
        return await self._ask(
            request, lambda asked: inner.send(asked, head if asked is request else head_of(asked), body)
        )

    async def aclose(self) -> None:
        """Close the inner transport."""
        await self.inner.aclose()

    async def _ask(self, request: httpx2.Request, send: Send) -> httpx2.Response:
        response = await send(request)
        if response.is_redirect:
            response = await self._follow(request, response, send)
        if response.is_success:
            return await _checked(response, self._lines)
        return await _refusal(response)

    async def _follow(self, request: httpx2.Request, response: httpx2.Response, send: Send) -> httpx2.Response:
        await response.aclose()
        response = await send(_moved(request, response))
        if response.is_redirect:
            await response.aclose()
            raise BadAnswer(f"the model's server redirects more than once (HTTP {response.status_code})")
        return response


def _moved(request: httpx2.Request, response: httpx2.Response) -> httpx2.Request:
    """``request`` as a redirect wants it. Raises :class:`BadAnswer` for one that is not followed."""
    status = response.status_code
    try:
        url = request.url.join(response.headers.get("location", ""))
    except (httpx2.InvalidURL, ValueError):
        raise BadAnswer(f"the model's server redirects to what is no address (HTTP {status})") from None
    if status not in _REDIRECTS:
        raise BadAnswer(f"the model's server redirects with HTTP {status}; only 307 and 308 keep a request as it is")
    if _origin(url) != _origin(request.url):
        raise BadAnswer(f"the model's server redirects to another origin (HTTP {status}), which is not followed")
    return httpx2.Request(
        request.method, url, headers=request.headers, stream=request.stream, extensions=request.extensions
    )


def _origin(url: httpx2.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port or {"http": 80, "https": 443}.get(url.scheme)


async def _refusal(response: httpx2.Response) -> httpx2.Response:
    """An answer that is no success, with as much of its body as is of use."""
    body = bytearray()
    try:
        async with asyncio.timeout(ERROR_TIME), aclosing(_decoded(response)) as pieces:
            async for piece in pieces:
                body += piece
                if len(body) >= ERROR_BYTES:
                    break
    except (TimeoutError, BadAnswer):
        pass  # the status tells more than what is wrong with its explanation
    finally:
        await response.aclose()
    content = bytes(body[:ERROR_BYTES])
    return httpx2.Response(
        response.status_code, headers=_without_framing(response), content=content, request=response.request
    )


async def _checked(response: httpx2.Response, lines: bool) -> httpx2.Response:
    """An answer whose body is decoded and bounded; itself, where nothing has to be done."""
    encoded = _encoding(response)
    if encoded not in ("", "gzip", "deflate"):
        await response.aclose()
        raise BadAnswer("the model's server compressed its answer in a way that was not asked for")
    if not encoded and not lines:
        return response
    return httpx2.Response(
        response.status_code,
        headers=_without_framing(response),
        stream=_Body(response, lines),
        extensions={name: value for name, value in response.extensions.items() if name != BODY},
        request=response.request,
    )


def _encoding(response: httpx2.Response) -> str:
    name: str = response.headers.get("content-encoding", "").strip().lower()
    return {"identity": "", "x-gzip": "gzip"}.get(name, name)


def _without_framing(response: httpx2.Response) -> list[tuple[bytes, bytes]]:
    return [(name, value) for name, value in response.headers.raw if name.lower() not in _BODY_HEADERS]


class _Body(httpx2.AsyncByteStream):
    """A response's body, decoded, and with ``lines`` within bounds."""

    def __init__(self, response: httpx2.Response, lines: bool) -> None:
        self._response = response
        self._lines = lines

    async def __aiter__(self) -> AsyncGenerator[bytes]:
        lines = _Lines(self._response) if self._lines else None
        async with aclosing(_decoded(self._response)) as pieces:
            async for piece in pieces:
                if lines is not None:
                    lines.check(piece)
                yield piece

    async def aclose(self) -> None:
        await self._response.aclose()


class _Lines:
    """Counts the bytes since a line ended, or, in a stream of events, since an event did."""

    def __init__(self, response: httpx2.Response) -> None:
        self._is_events = response.headers.get("content-type", "").startswith("text/event-stream")
        self._size = 0
        self._last = b""

    def check(self, piece: bytes) -> None:
        """Raises :class:`BadAnswer`."""
        joined = self._last + piece
        ends = max(map(joined.rfind, (b"\n\n", b"\n\r\n"))) if self._is_events else joined.rfind(b"\n")
        self._size = len(joined) - ends - 1 if ends >= 0 else self._size + len(piece)
        self._last = joined[-2:]
        if self._size > EVENT_LIMIT:
            kind = "an event" if self._is_events else "a line"
            raise BadAnswer(f"the model's server sent {kind} of more than {EVENT_LIMIT:,} bytes")


async def _decoded(response: httpx2.Response) -> AsyncGenerator[bytes]:
    """The body without its compression, in small pieces. Raises :class:`BadAnswer`."""
    assert isinstance(response.stream, httpx2.AsyncByteStream)
    encoding = _encoding(response)
    inflater = _Inflater() if encoding in ("gzip", "deflate") else None
    async for received in response.stream:
        if inflater is None:
            yield received
            continue
        for piece in inflater.inflate(received):
            yield piece
            await asyncio.sleep(0)
        if inflater.at_end:
            return


class _Inflater:
    """Decompresses gzip, and deflate as the standard has it, step by step."""

    def __init__(self) -> None:
        self._decoder = zlib.decompressobj(wbits=32 + zlib.MAX_WBITS)
        self._taken = self._given = 0

    @property
    def at_end(self) -> bool:
        return self._decoder.eof

    def inflate(self, data: bytes) -> Iterator[bytes]:
        while data and not self._decoder.eof:
            try:
                piece = self._decoder.decompress(data, STEP)
            except zlib.error:
                raise BadAnswer("the model's server sent a compressed answer that cannot be decoded") from None
            left = self._decoder.unconsumed_tail
            self._taken += len(data) - len(left)
            self._given += len(piece)
            data = left
            if self._given > FREE and self._given > RATIO * self._taken:
                raise BadAnswer(f"the model's server sent an answer that is compressed more than {RATIO}:1")
            if piece:
                yield piece


def bound(client: httpx2.AsyncClient, wrap: Callable[[httpx2.AsyncBaseTransport], httpx2.AsyncBaseTransport]) -> None:
    """Put what ``wrap`` gives in the place of each transport of ``client``, and ask for answers without compression."""
    client.headers.update(IDENTITY)
    client._transport = wrap(client._transport)
    client._mounts = {pattern: inner and wrap(inner) for pattern, inner in client._mounts.items()}
