"""A call's token is looked at before anything else is done for the call."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from fleet.security.tokens import Tokens
from host.health import HealthService
from host.interceptor import TokenInterceptor

TOKEN = "a-token-of-this-fleet"
RIGHT, WRONG = ("authorization", f"Bearer {TOKEN}"), ("authorization", "Bearer another-fleets-token")
CHECK = "/grpc.health.v1.Health/Check"


class Server:
    """A server with a method of each kind that the fleet has, behind the interceptor."""

    def __init__(self, token: str | None) -> None:
        self.events: list[str] = []
        interceptor = TokenInterceptor(Tokens(token, None), lambda peer: self.events.append("authenticated"))
        self.server = grpc.aio.server(interceptors=[interceptor])
        methods: dict[str, Any] = {
            "One": grpc.unary_unary_rpc_method_handler(self._one, self._read),
            "Many": grpc.stream_stream_rpc_method_handler(self._many, self._read),
        }
        generic: Any = grpc.method_handlers_generic_handler("test", methods)
        self.server.add_generic_rpc_handlers((generic, HealthService().handler()))

    def _read(self, message: bytes) -> bytes:
        self.events.append("read")
        return message

    async def _one(self, request: bytes, context: Any) -> bytes:
        if request == b"no":
            await context.abort(grpc.StatusCode.NOT_FOUND, "no")
        return b"one"

    async def _many(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        self.events.append("begun")
        try:
            async for request in requests:
                yield request
        finally:
            self.events.append("ended")


async def start(token: str | None) -> tuple[Server, Any]:
    server = Server(token)
    port = server.server.add_insecure_port("127.0.0.1:0")
    await server.server.start()
    return server, grpc.aio.insecure_channel(f"127.0.0.1:{port}")


@pytest.fixture(params=[TOKEN, None], ids=["token", "no token"])
async def served(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Server, Any]]:
    server, channel = await start(request.param)
    yield server, channel
    await channel.close()
    await server.server.stop(None)


@pytest.fixture
async def guarded() -> AsyncIterator[tuple[Server, Any]]:
    server, channel = await start(TOKEN)
    yield server, channel
    await channel.close()
    await server.server.stop(None)


async def status(channel: Any, method: str, *metadata: tuple[str, str]) -> grpc.StatusCode:
    code: grpc.StatusCode = await channel.unary_unary(method)(b"", metadata=metadata, timeout=5).code()
    return code


async def test_a_connection_authenticates_before_its_first_message_is_read(
    served: tuple[Server, Any],
) -> None:
    server, channel = served
    assert await channel.unary_unary("/test/One")(b"", metadata=(RIGHT,)) == b"one"
    assert server.events == ["authenticated", "read"]
    server.events.clear()
    call = channel.stream_stream("/test/Many")(metadata=(RIGHT,))
    await call.write(b"a")
    assert await call.read() == b"a"
    assert server.events == ["authenticated", "begun", "read"]
    call.cancel()
    async with asyncio.timeout(5):
        while server.events[-1] != "ended":
            await asyncio.sleep(0.01)


async def test_a_method_that_aborts_says_so(served: tuple[Server, Any]) -> None:
    _, channel = served
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await channel.unary_unary("/test/One")(b"no", metadata=(RIGHT,))
    assert (raised.value.code(), raised.value.details()) == (grpc.StatusCode.NOT_FOUND, "no")


@pytest.mark.parametrize("method", ["/test/One", "/test/Many", "/test/None", "/none/None"])
@pytest.mark.parametrize("metadata", [(), (WRONG,), (RIGHT, WRONG)], ids=["none", "wrong", "right and wrong"])
async def test_without_a_token_every_call_is_refused_and_nothing_read(
    guarded: tuple[Server, Any], method: str, metadata: tuple[tuple[str, str], ...]
) -> None:
    server, channel = guarded
    assert await status(channel, method, *metadata) == grpc.StatusCode.UNAUTHENTICATED
    assert not server.events


async def test_the_last_of_several_headers_counts(guarded: tuple[Server, Any]) -> None:
    _, channel = guarded
    assert await status(channel, "/test/One", WRONG, RIGHT) == grpc.StatusCode.OK
    assert await status(channel, "/test/None", WRONG, RIGHT) == grpc.StatusCode.UNIMPLEMENTED


async def test_health_needs_no_token_and_authenticates_nobody(guarded: tuple[Server, Any]) -> None:
    server, channel = guarded
    assert await status(channel, CHECK) == grpc.StatusCode.OK
    assert not server.events
    assert await status(channel, CHECK, RIGHT) == grpc.StatusCode.OK
    assert server.events == ["authenticated"]


async def test_where_there_is_no_token_any_call_authenticates() -> None:
    server, channel = await start(None)
    assert await status(channel, CHECK) == grpc.StatusCode.OK
    assert server.events == ["authenticated"]
    await channel.close()
    await server.server.stop(None)
