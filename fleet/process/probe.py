"""``python -I -S fleet/process/probe.py URL``: exits with 0 if the URL answers 200, for containers' health checks.

It imports almost nothing, because it runs every few seconds beside every member: 20 ms of CPU.
"""

import socket
import sys

TIMEOUT = 4.0


def status(url: str, timeout: float = TIMEOUT) -> int:
    """The HTTP status of ``http://HOST:PORT/PATH``. Raises ``OSError``, or ``ValueError`` if the answer is no HTTP."""
    address, _, path = url.removeprefix("http://").partition("/")
    host, _, port = address.rpartition(":")
    with socket.create_connection((host.strip("[]"), int(port)), timeout) as connection:
        connection.sendall(f"GET /{path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n".encode())
        version, _, rest = connection.makefile("rb").readline(1024).partition(b" ")
    if not version.startswith(b"HTTP/"):
        raise ValueError("the answer is not HTTP")
    return int(rest[:3])


USAGE = "usage: python -I -S fleet/process/probe.py http://HOST:PORT/PATH"
"""The import of a parser would cost as much as everything else."""

if __name__ == "__main__":
    if {"-h", "--help"} & set(sys.argv):
        print(USAGE)
        raise SystemExit(0)
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        print(f"{USAGE}\nnot understood: {' '.join(sys.argv[1:]) or 'no URL'}", file=sys.stderr)
        raise SystemExit(2)
    try:
        raise SystemExit(0 if status(sys.argv[1]) == 200 else 1)
    except (OSError, ValueError, IndexError) as error:
        print(f"{sys.argv[1]} does not answer: {error}", file=sys.stderr)
        raise SystemExit(1) from None
