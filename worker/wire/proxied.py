"""Errors with the right names for the SDK's aiohttp transport, which is used where the environment has proxies."""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import aiohttp
import httpx2


class Proxied(httpx2.AsyncBaseTransport):
    """Corrects ``inner``, which reports a lost connection as a timeout and has no error for what is not HTTP."""

    def __init__(self, inner: httpx2.AsyncBaseTransport) -> None:
        self._inner = inner

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send ``request``, again on a new connection if the server closed the first one without an answer."""
        try:
            return await self._ask(request)
        except httpx2.ReadError as error:
            cause = error.__cause__
            if not isinstance(cause, aiohttp.ServerDisconnectedError) or not isinstance(cause.message, str):
                raise  # the message holds a head that was begun: the server did answer
        return await self._ask(request)

    async def _ask(self, request: httpx2.Request) -> httpx2.Response:
        with _named():
            response = await self._inner.handle_async_request(request)
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        response.stream = _ProxiedBody(response.stream)
        return response

    async def aclose(self) -> None:
        """Close the inner transport."""
        await self._inner.aclose()


class _ProxiedBody(httpx2.AsyncByteStream):
    def __init__(self, inner: httpx2.AsyncByteStream) -> None:
        self._inner = inner

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _named():
            async for piece in self._inner:
                yield piece

    async def aclose(self) -> None:
        await self._inner.aclose()


@contextmanager
def _named() -> Iterator[None]:
    """Raise aiohttp's errors as httpx2's. Timeouts have their names already."""
    try:
        yield
    except (aiohttp.ClientError, httpx2.TransportError) as error:
        cause = error if isinstance(error, aiohttp.ClientError) else error.__cause__
        match cause:
            case TimeoutError():
                raise
            case aiohttp.ClientConnectorError():
                raise httpx2.ConnectError(str(cause)) from cause
            case aiohttp.ClientConnectionError():
                raise httpx2.ReadError(str(cause)) from cause
            case aiohttp.ClientPayloadError() | aiohttp.ClientResponseError():
                raise httpx2.RemoteProtocolError(str(cause)) from cause
        raise
