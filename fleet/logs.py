"""Structured logs on standard error: one line an event, as logfmt or JSON.

An event is a short lower-case phrase; everything that varies is a field. Prompts, replies and keys are never logged.
"""

import logging
import sys
import traceback
from collections import Counter
from collections.abc import MutableMapping
from typing import Any

import structlog

from fleet import logfmt

OURS = ("__main__", "fleet", "host", "worker", "gateway", "model")
"""Loggers that follow the level. Others stay at WARNING, because libraries log messages, and so prompts, below it."""


def _drop_bodies(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Reduce a logged exception to its type and place: its text can quote a prompt."""
    exc_info = event.pop("exc_info", None)
    if isinstance(exc_info, BaseException):
        exc_info = (type(exc_info), exc_info, exc_info.__traceback__)
    if exc_info is True:
        exc_info = sys.exc_info()
    if isinstance(exc_info, tuple) and exc_info[0] is not None:
        event["error"] = exc_info[0].__name__
        places = [
            f"{frame.f_code.co_filename.rsplit('/', 1)[-1]}:{line}" for frame, line in traceback.walk_tb(exc_info[2])
        ]
        event["at"] = " > ".join(places[-8:])
    return event


def _name_trace(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Lines of what belongs to a trace say to which. The model has none, and its image no OpenTelemetry."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is not None and (current := trace.get_current_span().get_span_context()).is_valid:
        event.setdefault("trace_id", f"{current.trace_id:032x}")
    return event


Counts = Counter[tuple[str, str]]
"""How many lines were logged, by level and event, in the order of their last lines. Lines of libraries and of
agents' own code have the event :data:`LIBRARIES`."""

LIBRARIES = "other"


def configure(process: str, level: str = "info", form: str = "text") -> Counts:
    """Log to standard error, the libraries as well. Every line has the name of the ``process``.

    ``form`` is ``text`` or ``json``. Returns the counts of the lines at ``info`` and above, which go on counting.
    """
    counts = Counts()

    def count(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if method != "debug":
            # Agents' own code may log anything, such as a prompt, which no label must have.
            key = event["level"], event["event"] if logger.name.partition(".")[0] in OURS else LIBRARIES
            counts[key] = counts.pop(key, 0) + 1
        return event

    def count_library(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        counts[event["level"], LIBRARIES] += 1
        return event

    def name_process(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event["process"] = process
        return event

    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        _name_trace,
        structlog.stdlib.add_log_level,
        name_process,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        _drop_bodies,
    ]
    renderer: Any = structlog.processors.JSONRenderer() if form == "json" else logfmt.line
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
            foreign_pre_chain=[*shared, count_library],
        )
    )
    root = logging.getLogger()
    handler.addFilter(_is_no_end)
    root.handlers[:] = [handler]
    root.setLevel(max(logging.WARNING, logging.getLevelName(level.upper())))
    for name in OURS:
        logging.getLogger(name).setLevel(level.upper())
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            count,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    return counts


ENDS = ("CancelledError", "ExecuteBatchError")
"""Exceptions that libraries log as errors when something has only ended: AutoGen's runtime a team that is cancelled,
gRPC a call whose member leaves while it is answered, if it learns that a moment too late."""


def _is_no_end(record: logging.LogRecord) -> bool:
    # asyncio's loops log what has no exception with ``exc_info=False``.
    return not record.exc_info or record.exc_info[0] is None or record.exc_info[0].__name__ not in ENDS


def logger(name: str) -> structlog.stdlib.BoundLogger:
    bound: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return bound
