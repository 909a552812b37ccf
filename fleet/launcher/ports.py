"""Looking at ports from outside: whether one can be had, and what answers there."""

import asyncio
import contextlib
import errno
import socket

from fleet.settings import HostPort

PATIENCE = 2.0
"""Seconds that an answer may take."""


def obstacle(bind: HostPort) -> str:
    """Why nothing can listen at ``bind``; empty if it can."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(*bind, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            # As servers do: a connection that lingers after the last run does not keep the port.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        return f"port {bind.port} is taken" if error.errno == errno.EADDRINUSE else error.strerror or str(error)
    return ""


async def http_status(address: HostPort, path: str) -> int:
    """The status of ``GET path``; 0 if nothing that speaks HTTP answers."""
    try:
        async with asyncio.timeout(PATIENCE):
            reader, writer = await asyncio.open_connection(*address)
            try:
                writer.write(f"GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n".encode())
                version, _, rest = (await reader.readline()).partition(b" ")
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
    except (OSError, TimeoutError, ValueError):
        return 0
    return int(rest[:3]) if version.startswith(b"HTTP/") and rest[:3].isdigit() else 0
