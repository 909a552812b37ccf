"""Our transport for clients that use httpx, the predecessor of httpx2, as Ollama's does."""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import httpx
import httpx2

from worker.wire.answers import IDENTITY, Bounded
from worker.wire.transport import Transport


class HttpxTransport(httpx.AsyncBaseTransport):
    """Makes the httpx2 transport ``inner`` one of httpx. Errors keep their names and have the originals as causes."""

    def __init__(self, inner: httpx2.AsyncBaseTransport) -> None:
        self._inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send ``request``. Raises ``httpx.TransportError``."""
        asked = httpx2.Request(
            request.method,
            str(request.url),
            headers=request.headers.raw,
            content=await request.aread(),
            extensions=request.extensions,
        )
        with _renamed():
            answer = await self._inner.handle_async_request(asked)
        return httpx.Response(answer.status_code, headers=answer.headers.raw, stream=_Body(answer), request=request)

    async def aclose(self) -> None:
        """Close the inner transport."""
        await self._inner.aclose()


class _Body(httpx.AsyncByteStream):
    def __init__(self, answer: httpx2.Response) -> None:
        self._answer = answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        assert isinstance(self._answer.stream, httpx2.AsyncByteStream)
        with _renamed():
            async for piece in self._answer.stream:
                yield piece

    async def aclose(self) -> None:
        await self._answer.aclose()


@contextmanager
def _renamed() -> Iterator[None]:
    """Raise httpx2's errors as httpx's of the same name."""
    try:
        yield
    except httpx2.TransportError as error:
        names = [cls.__name__ for cls in type(error).__mro__ if hasattr(httpx, cls.__name__)]
        raise getattr(httpx, names[0])(str(error)) from error


def bound_httpx(client: httpx.AsyncClient) -> None:
    """Have ``client`` send through our transport, except where the environment names a proxy."""
    client.headers.update(IDENTITY)
    client._transport = HttpxTransport(Bounded(Transport(), lines=True))
