"""Refuses members that do not carry the fleet's token."""

from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from fleet import logs
from fleet.repeats import Repeats
from fleet.security.tokens import Tokens

log = logs.logger(__name__)

_HEALTH = "/grpc.health.v1.Health/"


class TokenInterceptor(grpc.aio.ServerInterceptor):
    """Ends every call without one of the fleet's tokens as UNAUTHENTICATED; health checks need none.

    ``peer`` gives the address to log for what gRPC takes for its peer.
    """

    def __init__(self, tokens: Tokens, peer: Callable[[str], str] = str) -> None:
        self._tokens = tokens
        self._peer = peer
        self._repeats = Repeats()  # a refused member tries about once a second

    async def intercept_service(
        self, continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]], details: grpc.HandlerCallDetails
    ) -> Any:
        """See ``grpc.aio.ServerInterceptor``."""
        handler = await continuation(details)
        if handler is None or details.method.startswith(_HEALTH) or self._knows(details):
            return handler
        # Whatever is called: a handler for one message would first read it, all of its up to 32 MiB.
        return grpc.stream_stream_rpc_method_handler(self._refuse)

    def _knows(self, details: grpc.HandlerCallDetails) -> bool:
        return self._tokens.accepts(dict(details.invocation_metadata or ()).get("authorization", ""))

    async def _refuse(self, _: Any, context: Any) -> None:
        address = self._peer(context.peer()).rpartition(":")[0]
        if self._repeats.is_new(address):
            log.warning("refused a member: its FLEET_TOKEN is missing or wrong", peer=address)
        await context.abort(grpc.StatusCode.UNAUTHENTICATED, "FLEET_TOKEN is missing or wrong")
