"""Checks a port before starting what would not report a taken port itself."""

import errno
import os
import socket


def obstacle(host: str, port: int) -> str:
    """Why nothing can listen there now; empty if it can."""
    if port > 65535:  # which getaddrinfo would take for port 0
        return f"there is no port {port}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            # As servers do: connections of the last run in TIME_WAIT do not block the port.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        return _reason(error, port)
    return ""


def failure(setting: str, address: tuple[str, int], error: OSError) -> str:
    """One line for a process that cannot listen at the ``address`` which is in this ``setting``."""
    return f"{setting}: cannot listen on {address}: {_reason(error, address[1])}; set {setting} to another address"


def _reason(error: OSError, port: int) -> str:
    """The same whoever raised it, which the error's own text is not."""
    if error.errno == errno.EADDRINUSE:
        return f"port {port} is taken"
    is_name = isinstance(error, socket.gaierror)
    words = error.strerror if is_name or not error.errno else os.strerror(error.errno)
    return (words or str(error)).lower()
