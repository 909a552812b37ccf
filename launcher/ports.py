"""Looking at ports from outside: whether one can be had, and what answers there."""

import asyncio
import contextlib
import errno

from fleet.process import ports
from fleet.settings import HostPort

PATIENCE = 2.0
"""Seconds that an answer may take."""


def obstacle(bind: HostPort) -> str:
    """Why nothing can listen at ``bind``; empty if it can."""
    try:
        ports.check(bind)
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
