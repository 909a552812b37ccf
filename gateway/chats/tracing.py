"""Spans of the gateway: one a request for a chat, and one for each of its attempts within it."""

import time
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer

from fleet.tracing.context import carried, remote
from gateway.chats.chat import Chat, Record
from gateway.chats.observer import Observer

SERVER_ERROR = 500

PATH = 500
NAME = 128
"""Characters of a client's path, and of the name that it gives a model."""


class Tracing(Observer):
    """Makes spans with ``tracer``. What a worker makes belongs to the span of its attempt."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer
        self._requests: dict[str, tuple[Span, Context]] = {}
        """Of the requests that are open; each is closed."""
        self._attempts: dict[str, Span] = {}

    def opened(self, record: Record) -> None:
        attributes = {
            "http.request.method": "POST",
            "http.route": record.route,
            "url.path": record.path[:PATH],
            "url.scheme": "http",
            "client.address": record.client,
            "chatfleet.request.id": record.request_id,
        }
        parent = remote(record.traceparent, record.tracestate) or Context()
        began = time.time_ns() - int((time.monotonic() - record.began) * 1e9)
        span = self._tracer.start_span(
            f"POST {record.route}", parent, SpanKind.SERVER, attributes=attributes, start_time=began
        )
        self._requests[record.request_id] = span, trace.set_span_in_context(span, Context())
        record.fields["trace_id"] = f"{span.get_span_context().trace_id:032x}"

    def attempt_started(self, chat: Chat, number: int, worker_id: str) -> None:
        found = self._requests.get(chat.request_id)
        if found is None or chat.history is None:
            return
        attributes: dict[str, int | str] = {"chatfleet.attempt": number, "chatfleet.worker": worker_id}
        span = self._tracer.start_span("attempt", found[1], SpanKind.CLIENT, attributes)
        self._attempts[chat.request_id] = span
        sent = carried(span.get_span_context())
        chat.history.traceparent, chat.history.tracestate = sent.get("traceparent", ""), sent.get("tracestate", "")

    def attempt_ended(self, chat: Chat, number: int, worker_id: str, code: str) -> None:
        span = self._attempts.pop(chat.request_id, None)
        if span is not None:
            _end(span, {}, code or "ok", is_failure=code not in ("", "client_gone"))

    def closed(self, record: Record) -> None:
        found = self._requests.pop(record.request_id, None)
        if found is not None:
            is_failure = record.is_failure or record.status >= SERVER_ERROR
            _end(found[0], _ended(record), record.code, is_failure=is_failure)


def _end(span: Span, attributes: dict[str, Any], code: str, *, is_failure: bool) -> None:
    if is_failure:
        attributes["error.type"] = code
        span.set_status(StatusCode.ERROR)
    elif code not in ("ok", ""):
        attributes["chatfleet.code"] = code
    if attributes:
        span.set_attributes(attributes)  # in one go, which costs less
    span.end()


def _ended(record: Record) -> dict[str, Any]:
    attributes: dict[str, Any] = {"http.response.status_code": record.status}
    if (chat := record.chat) is not None:
        attributes["chatfleet.model"] = chat.model[:NAME]
        if chat.claim.waited:
            attributes["chatfleet.queued"] = round(chat.claim.waited, 4)
        if chat.first_at is not None:
            attributes["chatfleet.time_to_first_event"] = round(chat.first_at - record.began, 4)
    return attributes
