"""The HTTP server: uvicorn without its signal handlers, on our socket, with our protocol."""

import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from fleet.settings import HostPort
from gateway.http.connection import Bounds
from gateway.http.intake import Intake, Queue
from gateway.http.protocol import Protocol
from gateway.settings import GatewaySettings

BACKLOG = 2048

UNSENT = 64 * 1024
"""Bytes that the system buffers for a client beyond those on their way. By default it buffers megabytes for one that
reads nothing, which no credit counts."""


class Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def retire(self) -> None:
        for connection in list(self.server_state.connections):
            connection.shutdown()


def listen(address: HostPort) -> socket.socket:
    """A listening socket. Raises ``OSError`` when the address cannot be bound."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    sock = socket.create_server(address, family=family, backlog=BACKLOG, reuse_port=False)
    # Accepted connections inherit both options. asyncio does not set the first on ours, whose protocol number is 0;
    # without it a short reply's second packet waits 40 ms for the first one's acknowledgement.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT)
    return sock


def make_server(app: ASGIApp, settings: GatewaySettings) -> Server:
    bounds = Bounds(
        max_headers=settings.max_headers,
        header_timeout=settings.header_timeout,
        body_timeout=settings.body_timeout,
        answer_timeout=settings.body_timeout + settings.request_timeout + settings.stall_timeout,
        stall_timeout=settings.stall_timeout,
    )
    port = settings.proxy_bind.port if settings.proxy_bind is not None else None
    queue = Queue()

    def connection(**given: Any) -> Intake:
        return Intake(Protocol(bounds, port, **given), queue)

    return Server(
        uvicorn.Config(
            app,
            http=connection,  # type: ignore[arg-type]  # uvicorn only calls it
            ws="none",
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=bool(settings.trusted_proxies),
            forwarded_allow_ips=settings.trusted_proxies,
            timeout_graceful_shutdown=1,
        )
    )
