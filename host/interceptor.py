"""Refuses calls that do not carry one of the fleet's tokens."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc

from fleet import logs
from fleet.process.repeats import Repeats
from fleet.security.tokens import Tokens
from host import health, roles

log = logs.logger(__name__)

_HEALTH = f"/{health.SERVICE}/"


class TokenInterceptor(grpc.aio.ServerInterceptor):
    """Ends every call without one of the fleet's tokens as UNAUTHENTICATED, if there are any; health checks need none.

    ``authenticated`` gets the peer of every other call before its first message is read. ``address`` returns what to
    log for a peer.
    """

    def __init__(
        self, tokens: Tokens, authenticated: Callable[[str], None] = lambda _: None, address: Callable[[str], str] = str
    ) -> None:
        self._tokens = tokens
        self._authenticated = authenticated
        self._address = address
        self._repeats = Repeats()  # a refused member tries about once a second
        self.refused = 0

    async def intercept_service(
        self, continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]], details: grpc.HandlerCallDetails
    ) -> Any:
        shown = roles.shown(details.invocation_metadata)
        if self._tokens and not self._tokens.accepts(shown):
            if details.method.startswith(_HEALTH):
                return await continuation(details)  # it reads nothing either
            # For every method: a handler for one message would first read all of it, up to 32 MiB.
            return grpc.stream_stream_rpc_method_handler(self._refuse)
        handler = await continuation(details)
        return handler and self._authenticating(handler)

    def _authenticating(self, handler: Any) -> Any:
        """The same handler, but called before a message is read."""

        async def answer(requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
            self._authenticated(context.peer())
            if handler.unary_unary is not None:
                async for request in requests:
                    yield await handler.unary_unary(request, context)
                    return
            else:
                async with contextlib.aclosing(handler.stream_stream(requests, context)) as responses:
                    async for response in responses:
                        yield response

        return grpc.stream_stream_rpc_method_handler(answer, handler.request_deserializer, handler.response_serializer)

    async def _refuse(self, _: Any, context: Any) -> None:
        self.refused += 1
        address = self._address(context.peer()).rpartition(":")[0]
        if self._repeats.is_new(address):
            log.warning("refused a member: its FLEET_TOKEN is missing or wrong", peer=address)
        await context.abort(grpc.StatusCode.UNAUTHENTICATED, "FLEET_TOKEN is missing or wrong")
