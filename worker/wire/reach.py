"""Whether a model's address can be reached: a connection that is made and closed, without a request."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import httpx2

from worker.wire.answers import Bounded
from worker.wire.transport import Transport

TIMEOUT = 5.0

Reach = Callable[[], Awaitable[bool]]


def reach(client: Any) -> Reach | None:
    """How to try the address of a model's ``client``; None where its connections are not ours, or go by a proxy."""
    inner = getattr(client, "_client", None)  # an SDK with an HTTP client of its own, or that itself
    http = inner if isinstance(inner, httpx2.AsyncClient) else getattr(inner, "_client", None)
    url = getattr(inner, "base_url", None)
    if not isinstance(http, httpx2.AsyncClient) or not isinstance(url, httpx2.URL):
        return None
    outer = http._transport
    transport = outer.inner if isinstance(outer, Bounded) else outer
    return partial(_reach, transport, url) if isinstance(transport, Transport) else None


async def _reach(transport: Transport, url: httpx2.URL) -> bool:
    try:
        await transport.reach(url, TIMEOUT)
    except (httpx2.TransportError, OSError, ValueError):  # the last for names that no resolver takes
        return False
    return True
