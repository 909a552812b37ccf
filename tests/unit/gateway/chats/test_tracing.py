"""The gateway's spans, beside what ``tests/integration/test_traces.py`` shows."""

import time
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Sampler
from opentelemetry.trace import StatusCode

from fleet.tracing.context import checked
from fleet.tracing.spans import OwnTracer
from gateway.chats.chat import Chat, Record
from gateway.chats.tracing import NAME, PATH, Tracing
from gateway.errors import Unavailable
from protos import chat_pb2 as pb

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class Scene:
    def __init__(self, sampler: Sampler = ALWAYS_ON) -> None:
        self.exporter = InMemorySpanExporter()
        provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
        processor = SimpleSpanProcessor(self.exporter)
        self.observer = Tracing(OwnTracer(provider, processor, "chatfleet"))

    def opened(self, **fields: Any) -> Record:
        record = Record(request_id="r", route="/chat", path="/chat", began=time.monotonic(), face="plain", **fields)
        self.observer.opened(record)
        return record

    def closed(self, record: Record) -> list[ReadableSpan]:
        self.observer.closed(record)
        assert not vars(self.observer)["_requests"]
        assert not vars(self.observer)["_attempts"]
        return list(self.exporter.get_finished_spans())


def test_a_refused_request_is_a_span_without_an_attempt() -> None:
    scene = Scene()
    record = scene.opened()
    record.status, record.code = 401, "unknown_key"
    (span,) = scene.closed(record)
    assert span.status.status_code is StatusCode.UNSET
    assert dict(span.attributes or {})["chatfleet.code"] == "unknown_key"


def test_a_stream_that_fails_is_an_error_whatever_its_status() -> None:
    scene = Scene()
    record = scene.opened()
    record.status = 200
    record.end(Unavailable("link_lost", "gone"))
    (span,) = scene.closed(record)
    assert span.status.status_code is StatusCode.ERROR
    assert dict(span.attributes or {})["error.type"] == "link_lost"


def test_what_a_client_writes_is_bounded() -> None:
    scene = Scene()
    record = Record(request_id="r2", route="/chat", path="/" + "x" * 10_000, face="plain")
    scene.observer.opened(record)
    Chat(pb.ChatHistory(request_id="r2", model="m" * 10_000), record=record)
    scene.observer.closed(record)
    (span,) = scene.exporter.get_finished_spans()
    attributes = dict(span.attributes or {})
    assert len(str(attributes["url.path"])) == PATH
    assert len(str(attributes["chatfleet.model"])) == NAME


@pytest.mark.parametrize(("sampler", "flag"), [(ALWAYS_ON, "01"), (ALWAYS_OFF, "00")])
def test_the_worker_learns_whether_the_trace_is_exported(sampler: Sampler, flag: str) -> None:
    scene = Scene(sampler)
    record = scene.opened(traceparent=PARENT, tracestate="a=1")
    chat = Chat(pb.ChatHistory(request_id="r", model="m", traceparent=PARENT), record=record)
    assert chat.history is not None
    history = chat.history
    scene.observer.attempt_started(chat, 1, "w")
    assert history.traceparent[:36] == PARENT[:36]
    assert history.traceparent != PARENT
    assert history.traceparent.endswith(flag)
    assert checked(history.traceparent, history.tracestate) == (history.traceparent, "a=1")
    scene.observer.attempt_ended(chat, 1, "w", "client_gone")
    record.code = "client_gone"
    spans = scene.closed(record)
    assert [span.status.status_code for span in spans] == [StatusCode.UNSET] * len(spans)
    assert record.fields["trace_id"] == PARENT.split("-")[1]
