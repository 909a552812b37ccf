"""What the fast encoding makes of a span is what the exporter's own does."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.exporter.otlp.proto.http import trace_exporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from fleet.tracing.encoding import Encoding
from tests.harness.collector import Collector

RESOURCE = Resource.create({"service.name": "ours"})
SCOPE = InstrumentationScope("chatfleet", "1")
OTHER = InstrumentationScope("mine", "2")

ids = st.builds(
    SpanContext,
    st.integers(1, 2**128 - 1),
    st.integers(1, 2**64 - 1),
    st.booleans(),
    st.just(TraceFlags(1)),
    st.sampled_from([None, TraceState(), TraceState([("a", "1"), ("b@c", "2")])]),
)
text = st.text(st.characters(codec="utf-8"), max_size=20)
plain = st.one_of(text, st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False))
values = st.one_of(plain, st.lists(text, max_size=3).map(tuple), st.lists(text, max_size=3), st.binary(), st.none())
attributes = st.dictionaries(text, values, max_size=5)
statuses = st.one_of(st.just(Status()), st.just(Status(StatusCode.OK)), text.map(lambda x: Status(StatusCode.ERROR, x)))
times = st.integers(0, 2**63)
spans = st.builds(
    ReadableSpan,
    text,
    ids,
    st.one_of(st.none(), ids),
    st.sampled_from([RESOURCE, Resource.create({"service.name": "other"})]),
    attributes,
    st.one_of(st.just([]), attributes.map(lambda given: [Event("e", given, 5)])),
    st.one_of(st.just([]), ids.map(lambda given: [Link(given)])),
    st.sampled_from(SpanKind),
    status=statuses,
    start_time=times,
    end_time=times,
    instrumentation_scope=st.sampled_from([SCOPE, OTHER]),
)


def one_by_one(request: ExportTraceServiceRequest) -> list[tuple[bytes, bytes, bytes]]:
    """Each span with its resource and scope, in an order of its own."""
    found = [
        (span.SerializeToString(), group.resource.SerializeToString(), scoped.scope.SerializeToString())
        for group in request.resource_spans
        for scoped in group.scope_spans
        for span in scoped.spans
    ]
    return sorted(found)


@given(st.lists(spans, max_size=8))
def test_it_says_what_the_exporters_own_says(given: list[ReadableSpan]) -> None:
    assert one_by_one(Encoding(RESOURCE, SCOPE)(given)) == one_by_one(encode_spans(given))


@pytest.mark.parametrize("value", [2**70, object(), ("a", object()), "\ud800"], ids=["long", "object", "among", "half"])
def test_a_value_that_cannot_be_sent_costs_no_other_span(value: Any) -> None:
    def span(name: str, told: dict[str, Any]) -> ReadableSpan:
        return ReadableSpan(
            name, SpanContext(1, 2, False), resource=RESOURCE, instrumentation_scope=SCOPE, attributes=told
        )

    request = Encoding(RESOURCE, SCOPE)([span("a", {}), span("b", {"x": value, "y": 1}), span("c", {})])
    names = [span.name for group in request.resource_spans for scoped in group.scope_spans for span in scoped.spans]
    assert sorted(names) == ["a", "b", "c"]


@pytest.fixture
def encoding() -> Iterator[None]:
    theirs = vars(trace_exporter)["encode_spans"]
    yield
    vars(trace_exporter)["encode_spans"] = theirs


@pytest.mark.usefixtures("encoding")
def test_the_exporter_takes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own encoding is a name in its module, which may be another one in its next version."""
    told = ReadableSpan("a", SpanContext(1, 2, False), resource=RESOURCE, instrumentation_scope=SCOPE)
    asked = []

    def encode(spans: Any) -> ExportTraceServiceRequest:
        asked.append(spans)
        return Encoding(RESOURCE, SCOPE)(spans)

    vars(trace_exporter)["encode_spans"] = encode
    with Collector() as collector:
        for name, value in collector.settings.items():
            monkeypatch.setenv(name, value)
        trace_exporter.OTLPSpanExporter().export([told])
        assert [span.name for span in collector.spans] == ["a"]
    assert asked == [[told]]
