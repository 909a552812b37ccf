"""Answers to clients of HTTP/1.0, which know no chunks: a body of unknown length ends with the connection."""

import math

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from gateway.http.wire import Wire


def unchunked(app: ASGIApp, cycle: RequestResponseCycle, wire: Wire) -> ASGIApp:
    """``app``, whose answer in ``cycle`` has no chunks. A connection is kept only if the client asks for it."""
    cycle.waiting_for_100_continue = False

    async def old(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_unchunked(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = begin(message)
            elif cycle.expected_content_length == math.inf and not message.get("more_body"):
                cycle.expected_content_length = len(message.get("body", b""))
            await send(message)

        await app(scope, receive, send_unchunked)

    def begin(message: Message) -> Message:
        names = {name.lower() for name, _ in message["headers"]}
        if b"content-length" not in names:
            cycle.keep_alive = wire.chunked = cycle.chunked_encoding = False
            cycle.expected_content_length = math.inf  # type: ignore[assignment]  # uvicorn counts down from it
        elif cycle.keep_alive and b"connection" not in names:
            return {**message, "headers": [*message["headers"], (b"connection", b"keep-alive")]}
        return message

    return old
