"""The HTTP server: uvicorn under our signals, on a socket of ours, with connections of ours."""

import contextlib
import socket
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp

from fleet.settings import HostPort
from gateway.http.connection import Bounds
from gateway.http.protocol import Protocol
from gateway.settings import GatewaySettings

BACKLOG = 2048

UNSENT = 64 * 1024
"""Bytes that the system holds for a client beyond those on their way. Left alone it takes megabytes for one that reads
nothing, out of the credit's sight."""


class Server(uvicorn.Server):
    """A uvicorn server that leaves the signals to its process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone."""
        yield

    def retire(self) -> None:
        """Close every connection that is open now as soon as it is idle, which may be at once."""
        for connection in list(self.server_state.connections):
            connection.shutdown()


def listen(address: HostPort) -> socket.socket:
    """A listening socket. Raises ``OSError`` when the address cannot be had."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    sock = socket.create_server(address, family=family, backlog=BACKLOG, reuse_port=False)
    # Accepted connections inherit both options. asyncio sets the first only on sockets whose protocol number is TCP's
    # own, not on ours; without it a short reply's second packet waits 40 ms for the first one's acknowledgement.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT)
    return sock


def make_server(app: ASGIApp, settings: GatewaySettings) -> Server:
    """A server for ``app``; give ``serve`` the socket."""
    bounds = Bounds(
        max_headers=settings.max_headers,
        header_timeout=settings.header_timeout,
        body_timeout=settings.body_timeout,
        answer_timeout=settings.body_timeout + settings.request_timeout + settings.stall_timeout,
        stall_timeout=settings.stall_timeout,
    )
    return Server(
        uvicorn.Config(
            app,
            http=type("BoundedProtocol", (Protocol,), {"bounds": bounds}),  # uvicorn makes the instances
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
