"""Limits on what a worker accepts from a model's server, for every client whose transport can be reached.

A :class:`Bounded` transport wraps the one that talks to the server (:func:`bound`):

- of an error response at most 64 KiB of the body are read, within 5 s;
- a redirect is followed once, within the same origin (307 and 308), so that the prompt goes nowhere else;
- responses are requested without compression. One that is compressed all the same is decoded in small steps, and fails
  when it grows more than a hundredfold;
- requests carry the trace in which they are made;
- with ``lines``, a line or an event of the body has at most 4 MiB: for clients that collect them without a limit.

A response beyond a limit raises :class:`worker.contract.errors.BadAnswer`.
"""

import asyncio
import zlib
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing

import httpx2

from fleet.tracing import context as tracing
from worker.contract.errors import BadAnswer
from worker.wire.connection import LENGTH, READ
from worker.wire.transport import BODY

EVENT_LIMIT = 4 * 1024 * 1024
"""Bytes of one event, with the comments and blank lines before it, or of one line. A token takes a few hundred; 4 MiB
leave room for an image that a model puts into an event."""

ERROR_BYTES = 64 * 1024
"""Bytes that are read of the body of an error response."""

ERROR_TIME = 5.0
"""Seconds for reading them."""

FREE = 1024 * 1024
"""Bytes up to which a compressed body may grow by any factor."""

RATIO = 100
"""Factor by which it may grow beyond them; events of one shape compress about twentyfold."""

IDENTITY = {"accept-encoding": "identity"}
"""Compression saves nothing on events of a few hundred bytes, and a compressed body cannot be pushed."""

_REDIRECTS = (307, 308)
_BODY_HEADERS = (b"content-encoding", *LENGTH)


class Bounded(httpx2.AsyncBaseTransport):
    """Keeps the responses of ``inner`` within the limits."""

    def __init__(self, inner: httpx2.AsyncBaseTransport, lines: bool = False, error_time: float = ERROR_TIME) -> None:
        self.inner = inner
        self._lines = lines
        self._error_time = error_time

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send ``request``; raises ``httpx2.TransportError``, and :class:`BadAnswer`, which is one."""
        if "traceparent" not in request.headers:
            request.headers.update(tracing.headers())
        response = await self.inner.handle_async_request(request)
        if response.is_redirect:
            await response.aclose()
            response = await self.inner.handle_async_request(_moved(request, response))
            if response.is_redirect:
                await response.aclose()
                raise BadAnswer(f"the model's server redirects more than once (HTTP {response.status_code})")
        if response.is_success:
            return await _checked(response, self._lines)
        return await _refusal(response, self._error_time)

    async def aclose(self) -> None:
        """Close the inner transport."""
        await self.inner.aclose()


def _moved(request: httpx2.Request, response: httpx2.Response) -> httpx2.Request:
    """The request that a redirect asks for. Raises :class:`BadAnswer` for one that is not followed."""
    status = response.status_code
    try:
        url = request.url.join(response.headers.get("location", ""))
    except (httpx2.InvalidURL, ValueError):
        raise BadAnswer(f"the model's server redirects to an invalid address (HTTP {status})") from None
    if status not in _REDIRECTS:
        raise BadAnswer(f"the model's server redirects with HTTP {status}; only 307 and 308 keep a request as it is")
    if _origin(url) != _origin(request.url):
        raise BadAnswer(f"the model's server redirects to another origin (HTTP {status}), which is not followed")
    return httpx2.Request(
        request.method, url, headers=request.headers, stream=request.stream, extensions=request.extensions
    )


def _origin(url: httpx2.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port or {"http": 80, "https": 443}.get(url.scheme)


async def _refusal(response: httpx2.Response, seconds: float) -> httpx2.Response:
    """An error response with the first part of its body."""
    body = bytearray()
    try:
        async with asyncio.timeout(seconds), aclosing(_decoded(response)) as pieces:
            async for piece in pieces:
                body += piece
                if len(body) >= ERROR_BYTES:
                    break
    except (TimeoutError, BadAnswer):
        pass  # the status tells more than what is wrong with its explanation
    finally:
        await response.aclose()
    content = bytes(body[:ERROR_BYTES])
    return httpx2.Response(response.status_code, headers=_without_framing(response), content=content)


async def _checked(response: httpx2.Response, lines: bool) -> httpx2.Response:
    """``response`` with a decoded and bounded body; unchanged where that is not needed."""
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
    """Decompresses gzip and zlib step by step."""

    def __init__(self) -> None:
        self._decoder = zlib.decompressobj(wbits=32 + zlib.MAX_WBITS)
        self._taken = self._given = 0

    @property
    def at_end(self) -> bool:
        return self._decoder.eof

    def inflate(self, data: bytes) -> Iterator[bytes]:
        while data and not self._decoder.eof:
            try:
                piece = self._decoder.decompress(data, READ)
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
    """Wrap each transport of ``client``, and ask for responses without compression."""
    client.headers.update(IDENTITY)
    client._transport = wrap(client._transport)
    client._mounts = {pattern: inner and wrap(inner) for pattern, inner in client._mounts.items()}
