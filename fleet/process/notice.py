"""Tells who started this process that it is ready, as systemd wants it from a service of ``Type=notify``."""

import contextlib
import os
import socket

VARIABLE = "NOTIFY_SOCKET"
READY, STATUS = "READY=1", "STATUS="


def ready(status: str) -> None:
    """``status`` is for people: one line. Does nothing if nobody wants to know."""
    address = os.environ.get(VARIABLE, "")
    if not address:
        return
    if address.startswith("@"):  # a name that is no path
        address = f"\0{address[1:]}"
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.connect(address)
        sock.send(f"{READY}\n{STATUS}{status}".encode())
