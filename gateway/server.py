"""The HTTP server: uvicorn under our signals, on a socket of ours, with a way to drop a connection."""

import contextlib
import socket
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from fleet.settings import HostPort

KEEP_ALIVE = 75
"""Seconds that an idle connection is kept: longer than clients and proxies keep theirs, so that they close first."""

BACKLOG = 2048


class Protocol(HttpToolsProtocol):
    """Puts the connection's ``abort`` into the scope's extensions as ``chatfleet.abort``."""

    def on_message_begin(self) -> None:
        """See ``HttpToolsProtocol``."""
        super().on_message_begin()
        self.scope["extensions"] = {"chatfleet.abort": self.transport.abort}  # type: ignore[dict-item]


class Server(uvicorn.Server):
    """A uvicorn server that leaves the signals to its process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone."""
        yield


def listen(address: HostPort) -> socket.socket:
    """A listening socket. Raises ``OSError`` when the address cannot be had."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    return socket.create_server(address, family=family, backlog=BACKLOG, reuse_port=False)


def make_server(app: ASGIApp) -> Server:
    """A server for ``app``; give ``serve`` the socket."""
    return Server(
        uvicorn.Config(
            app,
            http=Protocol,
            ws="none",
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE,
            timeout_graceful_shutdown=1,
        )
    )
