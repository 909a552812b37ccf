"""The context of a trace, as a request carries it from its client to what it calls, whether spans are made or not.

It is OpenTelemetry's, whose API costs next to nothing. A header from outside is checked before anything reads it.
"""

import functools
import os
import re

from opentelemetry import context, trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, TraceState

STATE_LIMIT = 512
"""Characters of a tracestate; a longer one is dropped. The standard asks for as many."""

MEMBERS = 32
"""Members of a tracestate, by the standard."""

_PARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)
_KEY = r"[a-z][_0-9a-z\-*/]{0,255}|[a-z0-9][_0-9a-z\-*/]{0,240}@[a-z][_0-9a-z\-*/]{0,13}"
_MEMBER = re.compile(rf"({_KEY})=([\x20-\x2b\x2d-\x3c\x3e-\x7e]{{0,255}}[\x21-\x2b\x2d-\x3c\x3e-\x7e])")


def checked(traceparent: str, tracestate: str) -> tuple[str, str]:
    """Both as they may be passed on. An invalid traceparent counts as none, and so does an invalid tracestate."""
    found = _PARENT.fullmatch(traceparent) if _propagates() else None
    if found is None:
        return "", ""
    version, trace_id, span_id, flags, more = found.groups()
    if version == "ff" or (version == "00" and more) or not trace_id.strip("0") or not span_id.strip("0"):
        return "", ""
    return f"00-{trace_id}-{span_id}-{flags}", tracestate if _members(tracestate) else ""


def trace_id(traceparent: str) -> str:
    """Of a traceparent that was checked."""
    return traceparent[3:35]


def _members(tracestate: str) -> list[tuple[str, str]]:
    """The members of a tracestate; none if it is not valid."""
    if not tracestate or len(tracestate) > STATE_LIMIT:
        return []
    found = [_MEMBER.fullmatch(member) for part in tracestate.split(",") if (member := part.strip(" \t"))]
    pairs = [(member[1], member[2]) for member in found if member is not None]
    is_valid = len(pairs) == len(found) <= MEMBERS and len(dict(pairs)) == len(pairs)
    return pairs if is_valid else []


def remote(traceparent: str, tracestate: str) -> context.Context | None:
    """The context in which a received trace goes on; None without one."""
    traceparent, tracestate = checked(traceparent, tracestate)
    if not traceparent:
        return None
    _, trace_id, span_id, flags = traceparent.split("-")
    state = TraceState(_members(tracestate)) if tracestate else None
    parent = SpanContext(int(trace_id, 16), int(span_id, 16), True, TraceFlags(int(flags, 16)), state)
    return trace.set_span_in_context(NonRecordingSpan(parent))


def headers() -> dict[str, str]:
    """``traceparent`` and ``tracestate`` of what is called now; empty outside of a trace."""
    return carried(trace.get_current_span().get_span_context())


def carried(current: SpanContext) -> dict[str, str]:
    """The same for what belongs to the span ``current``."""
    if not current.is_valid or not _propagates():
        return {}
    made = {"traceparent": f"00-{current.trace_id:032x}-{current.span_id:016x}-{current.trace_flags:02x}"}
    if current.trace_state:
        made["tracestate"] = current.trace_state.to_header()
    return made


@functools.cache
def _propagates() -> bool:
    return "tracecontext" in os.environ.get("OTEL_PROPAGATORS", "tracecontext")
