"""Structured logs: one line an event on standard error, as logfmt or as JSON.

Events are short lower-case phrases; everything that varies is a field. Prompts, replies and keys are never fields.
"""

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

OURS = ("__main__", "fleet", "host", "worker", "gateway", "model")
"""Loggers that follow the level. All others are held at WARNING: libraries write messages, and so prompts, below it."""


def _drop_bodies(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Keep only the place and the type of an exception that a library logged: its text can quote a prompt."""
    exc_info = event.pop("exc_info", None)
    if isinstance(exc_info, BaseException):
        exc_info = (type(exc_info), exc_info, exc_info.__traceback__)
    if exc_info is True:
        exc_info = sys.exc_info()
    if isinstance(exc_info, tuple) and exc_info[0] is not None:
        event["error"] = exc_info[0].__name__
        trace = exc_info[2]
        places = []
        while trace is not None:
            code = trace.tb_frame.f_code
            places.append(f"{code.co_filename.rsplit('/', 1)[-1]}:{trace.tb_lineno}")
            trace = trace.tb_next
        event["at"] = " > ".join(places[-8:])
    return event


def configure(process: str, level: str = "info", form: str = "text") -> None:
    """Send this process's logs, and its libraries', to standard error.

    ``process`` is one of the fleet's process names and stands in every line; ``form`` is ``text`` or ``json``.
    """

    def name_process(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event["process"] = process
        return event

    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        name_process,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        _drop_bodies,
    ]
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if form == "json"
        else structlog.processors.LogfmtRenderer(key_order=["time", "level", "process", "event"], drop_missing=True)
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
            foreign_pre_chain=shared,
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(logging.WARNING, logging.getLevelName(level.upper())))
    for name in OURS:
        logging.getLogger(name).setLevel(level.upper())
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger for one module; call it with an event phrase and fields."""
    bound: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return bound
