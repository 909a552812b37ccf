"""Spans at a third of what the SDK's cost, whose limits, locks and checks chatfleet's own do not need.

When they end, the SDK's processor gets them as it gets its own. They have OpenTelemetry's API, so that an agent's code
can add to the span that it runs in.
"""

import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import Event, ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.util.types import Attributes

UNSET = Status()


class OwnTracer(trace.Tracer):
    """Makes spans as ``provider`` says, and gives those that have ended to ``processor``."""

    def __init__(self, provider: TracerProvider, processor: SpanProcessor, name: str, version: str = "") -> None:
        self.resource = provider.resource
        self.scope = InstrumentationScope(name, version)
        self.processor = processor
        self._sampler = provider.sampler
        self._ids = provider.id_generator

    def start_span(
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
    ) -> Span:
        """See :class:`opentelemetry.trace.Tracer`."""
        told, linked = {**(attributes or {})}, [*(links or ())]
        current = trace.get_current_span(context)
        outer = current.get_span_context()
        span_id = self._ids.generate_span_id()
        if isinstance(current, OwnSpan):  # within what it has taken no sampler of the SDK leaves anything out
            made = SpanContext(outer.trace_id, span_id, False, outer.trace_flags, outer.trace_state)
            return OwnSpan(self, name, made, outer, kind, told, linked, start_time)
        if outer.is_valid:
            trace_id, is_random = outer.trace_id, outer.trace_flags.random_trace_id
        else:
            trace_id, is_random = self._ids.generate_trace_id(), self._ids.is_trace_id_random()
        sampled = self._sampler.should_sample(context, trace_id, name, kind, attributes, links)
        is_taken = sampled.decision is Decision.RECORD_AND_SAMPLE
        flags = (TraceFlags.SAMPLED if is_taken else 0) | (TraceFlags.RANDOM_TRACE_ID if is_random else 0)
        made = SpanContext(trace_id, span_id, False, TraceFlags(flags), sampled.trace_state)
        if not is_taken:
            return NonRecordingSpan(made)
        return OwnSpan(self, name, made, outer if outer.is_valid else None, kind, told, linked, start_time)

    @contextmanager
    def start_as_current_span(self, name: str, *arguments: Any, **named: Any) -> Iterator[Span]:  # type: ignore[override]
        """See :class:`opentelemetry.trace.Tracer`."""
        end_on_exit = named.pop("end_on_exit", True)
        span = self.start_span(name, *arguments, **named)
        with trace.use_span(span, end_on_exit):
            yield span


class OwnSpan(Span):
    """See :class:`opentelemetry.trace.Span`. What is told to it after its end is left out."""

    def __init__(
        self,
        tracer: OwnTracer,
        name: str,
        context: SpanContext,
        parent: SpanContext | None,
        kind: SpanKind,
        attributes: dict[str, Any],
        links: list[Link],
        start_time: int | None,
    ) -> None:
        self._tracer: OwnTracer | None = tracer
        self._name = name
        self._context = context
        self._parent = parent
        self._kind = kind
        self._attributes = attributes
        self._events: list[Event] = []
        self._links = links
        self._status = UNSET
        self._began = start_time or time.time_ns()

    def end(self, end_time: int | None = None) -> None:
        tracer, self._tracer = self._tracer, None
        if tracer is None:
            return
        ended = ReadableSpan(
            self._name,
            self._context,
            self._parent,
            tracer.resource,
            self._attributes,
            self._events,
            self._links,
            self._kind,
            status=self._status,
            start_time=self._began,
            end_time=end_time or time.time_ns(),
            instrumentation_scope=tracer.scope,
        )
        tracer.processor.on_end(ended)

    def get_span_context(self) -> SpanContext:
        return self._context

    def is_recording(self) -> bool:
        return self._tracer is not None

    def set_attributes(self, attributes: Mapping[str, Any]) -> None:
        if self._tracer is not None:
            self._attributes.update(attributes)

    def set_attribute(self, key: str, value: Any) -> None:
        self.set_attributes({key: value})

    def add_event(self, name: str, attributes: Attributes = None, timestamp: int | None = None) -> None:
        if self._tracer is not None:
            self._events.append(Event(name, attributes, timestamp))

    def add_link(self, context: SpanContext, attributes: Attributes = None) -> None:
        if self._tracer is not None:
            self._links.append(Link(context, attributes))

    def update_name(self, name: str) -> None:
        if self._tracer is not None:
            self._name = name

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        """An ``OK`` stays, and ``UNSET`` changes nothing."""
        given = status if isinstance(status, Status) else Status(status, description)
        if self._tracer is not None and self._status.status_code is not StatusCode.OK and not given.is_unset:
            self._status = given

    def record_exception(
        self,
        exception: BaseException,
        attributes: Attributes = None,
        timestamp: int | None = None,
        escaped: bool = False,
    ) -> None:
        told = {
            "exception.type": f"{type(exception).__module__}.{type(exception).__qualname__}".removeprefix("builtins."),
            "exception.message": str(exception),
            "exception.stacktrace": "".join(traceback.format_exception(exception)),
        }
        self.add_event("exception", {**told, **(attributes or {})}, timestamp)
