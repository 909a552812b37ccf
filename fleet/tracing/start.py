"""Whether spans are made. The SDK is imported only then."""

import os
import re
from typing import TYPE_CHECKING

from fleet import logs

if TYPE_CHECKING:
    from fleet.tracing.export import Export

log = logs.logger(__name__)

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")


def start(service: str, member_id: str) -> "Export | None":
    """The export of spans that the environment asks for. ``service`` is the service's name unless that says another.

    What it asks for in vain is a warning: a service must not fail because it cannot be watched.
    """
    named = next((name for name in ENDPOINTS if os.environ.get(name)), "")
    if not named or _says("OTEL_SDK_DISABLED", "true"):
        return None
    if _says("OTEL_TRACES_EXPORTER", "none"):
        return None
    protocol = next(filter(None, map(os.environ.get, PROTOCOLS)), "http/protobuf")
    if protocol != "http/protobuf":
        log.warning("tracing is off", reason=f"{PROTOCOLS[1]}: {protocol} is not spoken here; http/protobuf is")
        return None
    if not re.match("https?://[^/]", os.environ[named]):
        log.warning("tracing is off", reason=f"{named}: is no URL, such as http://collector:4318")
        return None
    from fleet.tracing.export import Export

    try:
        return Export(service, member_id)
    except Exception as error:  # whatever the SDK thinks of its settings
        log.warning("tracing is off", reason=f"{type(error).__name__}: {error}")
        return None


def _says(name: str, value: str) -> bool:
    return os.environ.get(name, "").strip().lower() == value
