"""OpenTelemetry's SDK: a thread of its own sends spans to an OTLP endpoint. ``OTEL_*`` variables are its settings."""

import asyncio
import logging
import threading
import time
from contextlib import suppress
from typing import Any

from opentelemetry.exporter.otlp.proto.http import trace_exporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import NoOpTracer, Tracer

from fleet import logs
from fleet.process.version import VERSION
from fleet.tracing.encoding import Encoding
from fleet.tracing.spans import OwnTracer

log = logs.logger(__name__)

CLOSE = 1.5
"""Seconds that the last spans may take at the process's end."""

WARN_EVERY = 60.0
"""Seconds between two warnings."""

AUTOGENS = frozenset({"autogen-core", "autogen Worker Runtime"})
"""Tracers of AutoGen whose spans are ours already: agents, tools, and messages between members."""


class Export:
    """The spans of ``tracer`` are exported. Nothing waits for the endpoint: what the queue cannot hold is lost."""

    def __init__(self, service: str, member_id: str) -> None:
        library, warnings = logging.getLogger("opentelemetry"), _Warnings()
        library.handlers[:] = [warnings]
        library.propagate = False
        own = {"service.name": service, "service.instance.id": member_id, "service.version": VERSION}
        resource = Resource.create({**own, **OTELResourceDetector().detect().attributes})
        self.provider = _Provider(resource=resource, shutdown_on_exit=False)
        processor = BatchSpanProcessor(OTLPSpanExporter())
        self.provider.add_span_processor(processor)
        self.tracer = OwnTracer(self.provider, processor, "chatfleet", VERSION)
        vars(trace_exporter)["encode_spans"] = Encoding(self.provider.resource, self.tracer.scope)
        warnings.begin_export()

    async def close(self) -> None:
        """Send what is left, for :data:`CLOSE` seconds at most."""
        loop, closed = asyncio.get_running_loop(), asyncio.Event()

        def close() -> None:
            self.provider.shutdown()
            with suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(closed.set)

        threading.Thread(target=close, name="last spans", daemon=True).start()
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE):
                await closed.wait()


class _Provider(TracerProvider):
    """The spans of agents' own code are exported with ours."""

    def get_tracer(self, instrumenting_module_name: str, *arguments: Any, **named: Any) -> Tracer:
        if instrumenting_module_name in AUTOGENS:
            return _NO_SPANS
        return super().get_tracer(instrumenting_module_name, *arguments, **named)


_NO_SPANS = NoOpTracer()


class _Warnings(logging.Handler):
    """What the SDK complains of as lines of ours: of its settings all, of the export no more than one a minute."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._exports = False
        self._next = 0.0
        self._left_out = 0

    def begin_export(self) -> None:
        """The settings are read."""
        self._exports = True

    def emit(self, record: logging.LogRecord) -> None:
        reason, now = record.getMessage()[:500], time.monotonic()
        if not self._exports:
            log.warning("tracing setting ignored", reason=reason)
        elif reason.startswith("Transient error"):  # it tries again
            return
        elif now < self._next:
            self._left_out += 1
        else:
            log.warning("traces lost", reason=reason, left_out=self._left_out)
            self._next, self._left_out = now + WARN_EVERY, 0
