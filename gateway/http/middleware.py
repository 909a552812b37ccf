"""What every HTTP answer gets, whatever answers: an ``x-request-id``, one log line, and an error instead of silence.

Pure ASGI: Starlette's ``BaseHTTPMiddleware`` would cost more than the gateway's own work, and hides disconnects.
"""

import re
import time
import uuid
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fleet import logs
from fleet.process.turns import Turns
from fleet.tracing.context import checked, trace_id
from gateway.chats.chat import Record
from gateway.chats.observer import Observer
from gateway.errors import GatewayError
from gateway.faces import listed

log = logs.logger("gateway.http")

GIVEN_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
"""A client's own request id, which is returned to it; the log and errors have ours, which is unique."""

QUIET_PATHS = frozenset({"/health", "/healthz", "/metrics", "/readyz"})


class Edge:
    """Wraps the application; the request's id is in ``scope["state"]["request_id"]``.

    While ``leaving`` is true every answer closes its connection, so that the client's next request goes elsewhere.
    """

    def __init__(self, app: ASGIApp, leaving: Callable[[], bool], observer: Observer | None = None) -> None:
        self._app = app
        self._leaving = leaving
        self._observer = observer or Observer()
        self._turns = Turns()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        async with self._turns.turn():
            pass  # hundreds of requests that arrive together begin in turns, so that streams go on in between
        request_id = uuid.uuid4().hex
        record = _record(scope, request_id)
        scope.setdefault("state", {}).update(request_id=request_id, record=record)
        shown = _given_id(scope) or request_id

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                record.status = message["status"]
                closing = [(b"connection", b"close")] if self._leaving() else []
                added = [(b"x-request-id", shown.encode()), *closing]
                message = {**message, "headers": [*message["headers"], *added]}
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except Exception as error:
            log.error("request failed", request=request_id, path=_shown(scope["path"]), exc_info=error)
            record.fail()
            if record.status == 0:
                failure = GatewayError("internal_error", "the gateway failed; its log has the request id")
                await listed.refusal(failure, request_id)(scope, receive, send_with_id)
        finally:
            record.ended = time.monotonic()
            if record.face:
                self._observer.closed(record)
            self._write(scope, record, "" if shown == request_id else shown)

    def _write(self, scope: Scope, record: Record, given_id: str) -> None:
        write = log.debug if scope["path"] in QUIET_PATHS else log.warning if record.is_failure else log.info
        write(
            "request",
            request=record.request_id,
            **({"client_request": given_id} if given_id else {}),
            **({"client": record.client} if record.client else {}),
            method=scope["method"],
            path=_shown(scope["path"]),
            status=record.status,
            **record.line(),
            ms=round(record.seconds * 1000, 1),
            **record.fields,
        )


def _record(scope: Scope, request_id: str) -> Record:
    client = scope.get("client")
    # A second traceparent makes the first one invalid; a tracestate may be in several parts.
    traceparent, tracestate = checked(_values(scope, b"traceparent"), _values(scope, b"tracestate"))
    return Record(
        request_id=request_id,
        client=_shown(client[0]) if client else "",
        traceparent=traceparent,
        tracestate=tracestate,
        began=time.monotonic(),
        fields={"trace_id": trace_id(traceparent)} if traceparent else {},
    )


def _values(scope: Scope, wanted: bytes) -> str:
    return ",".join(str(value, "latin-1") for name, value in scope["headers"] if name == wanted)


def _given_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and GIVEN_ID.fullmatch(value):
            return str(value, "ascii")
    return ""


def _shown(text: str) -> str:
    """A client's text for the log, escaped: control characters could rewrite the reader's terminal."""
    return text[:500].encode("unicode_escape").decode("ascii")
