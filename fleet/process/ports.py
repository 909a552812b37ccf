"""Checks a port before starting what would not report a taken port itself."""

import errno
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
        return f"port {port} is taken" if error.errno == errno.EADDRINUSE else error.strerror or str(error)
    return ""
