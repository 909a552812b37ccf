"""A receiver of traces: OTLP over HTTP, as any collector takes it, in a thread of its own."""

import asyncio
import gzip
import threading
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from tests.harness.ports import free_port
from tests.harness.waiting import wait_until


@dataclass(frozen=True)
class Span:
    """A span as it was received. Ids are in hexadecimal, times in nanoseconds."""

    trace: str
    id: str
    parent: str
    state: str
    name: str
    kind: int
    began: int
    ended: int
    attributes: dict[str, Any]
    is_error: bool
    service: str
    member: str
    scope: str


class Collector:
    """Receives inside its ``with``. ``settings`` make a member export to it, as soon as a span ends."""

    def __init__(self) -> None:
        self.port = free_port()
        self.spans: list[Span] = []
        self.headers: list[dict[str, str]] = []
        self.refusals = 0
        """Of so many requests it says that it is not available."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    @property
    def settings(self) -> dict[str, str]:
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{self.port}", "OTEL_BSP_SCHEDULE_DELAY": "100"}

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def trace(self, trace_id: str) -> list[Span]:
        """The spans of one trace, in the order of their beginnings."""
        return sorted((span for span in self.spans if span.trace == trace_id), key=lambda span: span.began)

    def wait_for(self, trace_id: str, count: int, within: float = 10.0) -> list[Span]:
        """The spans of one trace, once there are so many."""
        wait_until(lambda: len(self.trace(trace_id)) >= count, within, f"{count} spans of trace {trace_id}")
        return self.trace(trace_id)

    async def _start(self) -> None:
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.add_routes([web.post("/v1/traces", self._receive)])
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()

    async def _receive(self, request: web.Request) -> web.Response:
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        body = await request.read()
        if self.refusals:
            self.refusals -= 1
            raise web.HTTPServiceUnavailable
        if body[:2] == b"\x1f\x8b":
            body = gzip.decompress(body)
        self.spans += spans(ExportTraceServiceRequest.FromString(body))
        return web.Response(content_type="application/x-protobuf")


def spans(request: ExportTraceServiceRequest) -> list[Span]:
    found = []
    for group in request.resource_spans:
        resource = _attributes(group.resource.attributes)
        for scoped in group.scope_spans:
            found += [
                Span(
                    trace=span.trace_id.hex(),
                    id=span.span_id.hex(),
                    parent=span.parent_span_id.hex(),
                    state=span.trace_state,
                    name=span.name,
                    kind=span.kind,
                    began=span.start_time_unix_nano,
                    ended=span.end_time_unix_nano,
                    attributes=_attributes(span.attributes),
                    is_error=span.status.code == 2,
                    service=resource.get("service.name", ""),
                    member=resource.get("service.instance.id", ""),
                    scope=scoped.scope.name,
                )
                for span in scoped.spans
            ]
    return found


def by_parent(trace: Sequence[Span]) -> dict[str, list[str]]:
    """The names of the spans of one trace, sorted, by the name of what they belong to."""
    names = {span.id: span.name for span in trace}
    tree: defaultdict[str, list[str]] = defaultdict(list)
    for span in trace:
        tree[names.get(span.parent, span.parent)].append(span.name)
    return {parent: sorted(found) for parent, found in tree.items()}


def _attributes(given: Sequence[KeyValue]) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in given}


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    return getattr(value, kind) if kind else None
