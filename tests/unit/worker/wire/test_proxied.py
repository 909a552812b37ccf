"""aiohttp's errors under httpx2's names."""

import aiohttp
import httpx2
import pytest
from aiohttp.client_reqrep import ConnectionKey

from worker.wire.proxied import Proxied

KEY = ConnectionKey("h", 80, False, True, None, None, None)


class Inner(httpx2.AsyncBaseTransport):
    """Raises what a test says, once each, then answers."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.requests = 0

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self.requests += 1
        if self.errors:
            raise self.errors.pop(0)
        return httpx2.Response(200, stream=Failing())


class Failing(httpx2.AsyncByteStream):
    async def __aiter__(self):  # type: ignore[no-untyped-def]
        yield b"a"
        raise aiohttp.ClientPayloadError("cut off")


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("raised", "error"),
    [
        (aiohttp.ClientConnectorError(KEY, OSError(111, "refused")), httpx2.ConnectError),
        (aiohttp.ClientConnectionResetError("reset"), httpx2.ReadError),
        (aiohttp.ClientPayloadError("odd"), httpx2.RemoteProtocolError),
        (caused(httpx2.ReadTimeout("slow"), aiohttp.ServerTimeoutError()), httpx2.ReadTimeout),
        (caused(httpx2.ReadTimeout("lost"), aiohttp.ClientOSError("lost")), httpx2.ReadError),
    ],
)
async def test_an_error_has_the_name_of_what_happened(raised: Exception, error: type[Exception]) -> None:
    inner = Inner(raised)
    with pytest.raises(error):
        await Proxied(inner).handle_async_request(httpx2.Request("POST", "http://h/"))
    assert inner.requests == 1


async def test_a_connection_that_closed_without_an_answer_is_replaced_once() -> None:
    inner = Inner(aiohttp.ServerDisconnectedError())
    response = await Proxied(inner).handle_async_request(httpx2.Request("POST", "http://h/"))
    assert inner.requests == 2
    pieces = response.stream.__aiter__()  # type: ignore[union-attr]
    assert await anext(pieces) == b"a"
    with pytest.raises(httpx2.RemoteProtocolError):
        await anext(pieces)
    again = Inner(aiohttp.ServerDisconnectedError(), aiohttp.ServerDisconnectedError())
    with pytest.raises(httpx2.ReadError):
        await Proxied(again).handle_async_request(httpx2.Request("POST", "http://h/"))
