"""Spans of our own beside the SDK's: whatever is done to both, the same comes out."""

from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    DEFAULT_OFF,
    DEFAULT_ON,
    ParentBasedTraceIdRatio,
    Sampler,
    TraceIdRatioBased,
)
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
)

from fleet.tracing.spans import OwnTracer

BOTH = ["ours", "theirs"]


class Scene:
    def __init__(self, kind: str, sampler: Sampler = ALWAYS_ON) -> None:
        self.exporter = InMemorySpanExporter()
        provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
        processor = SimpleSpanProcessor(self.exporter)
        provider.add_span_processor(processor)
        ours = OwnTracer(provider, processor, "chatfleet", "1")
        self.tracer: trace.Tracer = ours if kind == "ours" else provider.get_tracer("chatfleet", "1")

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        return self.exporter.get_finished_spans()


def parent(trace_id: int, flags: int, *, is_remote: bool = True) -> Context:
    made = SpanContext(trace_id, 7, is_remote, TraceFlags(flags), TraceState([("a", "1")]))
    return trace.set_span_in_context(NonRecordingSpan(made), Context())


def outline(span: ReadableSpan) -> dict[str, Any]:
    return {
        "name": span.name,
        "kind": span.kind,
        "attributes": dict(span.attributes or {}),
        "events": [(event.name, sorted(event.attributes or {})) for event in span.events],
        "links": [(link.context.span_id, dict(link.attributes or {})) for link in span.links],
        "status": (span.status.status_code, span.status.description),
        "times": (span.start_time, span.end_time),
        "scope": span.instrumentation_scope,
    }


def told(span: Span) -> None:
    span.set_attribute("a", 1)
    span.set_attributes({"b": "x", "c": (1, 2)})
    span.add_event("happened", {"how": "so"}, 5)
    span.add_link(SpanContext(3, 4, False), {"l": 1})
    span.update_name("other")
    span.record_exception(ValueError("bad"), {"more": 1})


def late(span: Span) -> None:
    span.end(9)
    told(span)
    span.set_status(StatusCode.ERROR)
    span.end(10)


def final(span: Span) -> None:
    span.set_status(StatusCode.OK)
    span.set_status(StatusCode.ERROR, "no more")


DONE: dict[str, Callable[[Span], object]] = {
    "nothing": lambda span: None,
    "told": told,
    "error": lambda span: span.set_status(Status(StatusCode.ERROR, "why")),
    "unset": lambda span: (span.set_status(StatusCode.ERROR, "why"), span.set_status(StatusCode.UNSET)),
    "final": final,
    "late": late,
}


@pytest.mark.parametrize("done", DONE.values(), ids=DONE)
def test_what_is_told_to_a_span_is_what_ends(done: Callable[[Span], object]) -> None:
    ended = []
    for kind in BOTH:
        scene = Scene(kind)
        span = scene.tracer.start_span("s", Context(), SpanKind.CLIENT, {"z": 1}, start_time=3)
        assert span.is_recording()
        done(span)
        span.end(8)
        assert not span.is_recording()
        (found,) = scene.spans
        ended.append(outline(found))
    ours, theirs = ended
    for _, names in theirs["events"]:
        if "exception.escaped" in names:  # which its convention has given up
            names.remove("exception.escaped")
    assert ours == theirs


@pytest.mark.parametrize(
    "sampler",
    [ALWAYS_ON, ALWAYS_OFF, DEFAULT_ON, DEFAULT_OFF, TraceIdRatioBased(0.5), ParentBasedTraceIdRatio(0.5)],
    ids=["on", "off", "parent on", "parent off", "ratio", "parent ratio"],
)
@pytest.mark.parametrize("flags", [0, 1, 2, 3])
@pytest.mark.parametrize("trace_id", [1, 2**128 - 1], ids=["few", "many"])
def test_a_span_is_taken_or_left_as_by_the_sdk(sampler: Sampler, flags: int, trace_id: int) -> None:
    """A ratio goes by the trace's id."""
    made = []
    for kind in BOTH:
        scene = Scene(kind, sampler)
        outer = scene.tracer.start_span("outer", parent(trace_id, flags))
        inner = scene.tracer.start_span("inner", trace.set_span_in_context(outer, Context()))
        contexts = [span.get_span_context() for span in (outer, inner)]
        inner.end()
        outer.end()
        assert len({context.span_id for context in contexts}) == 2
        made.append(
            (
                [(context.trace_id, context.trace_flags, context.trace_state) for context in contexts],
                [span.name for span in scene.spans],
                [span.parent.span_id in {7, contexts[0].span_id} for span in scene.spans if span.parent is not None],
            )
        )
    ours, theirs = made
    assert ours == theirs


@pytest.mark.parametrize("kind", BOTH)
def test_a_span_without_a_parent_begins_a_trace(kind: str) -> None:
    scene = Scene(kind)
    for _ in range(2):
        scene.tracer.start_span("s", Context()).end()
    first, second = (span.get_span_context() for span in scene.spans)
    assert first is not None
    assert second is not None
    assert first.trace_id != second.trace_id
    assert first.trace_flags == TraceFlags(TraceFlags.SAMPLED | TraceFlags.RANDOM_TRACE_ID)
    assert scene.spans[0].parent is None


@pytest.mark.parametrize("kind", BOTH)
def test_a_span_can_be_the_current_one(kind: str) -> None:
    scene = Scene(kind)

    def fail() -> None:
        with scene.tracer.start_as_current_span("s", attributes={"a": 1}) as span:
            assert trace.get_current_span() is span
            raise ValueError("bad")

    with pytest.raises(ValueError, match="bad"):
        fail()
    (found,) = scene.spans
    assert found.status.status_code is StatusCode.ERROR
    assert [event.name for event in found.events] == ["exception"]
    assert dict(found.attributes or {}) == {"a": 1}
