"""Whether a port can be had: looked at before something is started that would not say so itself."""

import socket

from fleet.settings import HostPort


def check(bind: HostPort) -> None:
    """Raises ``OSError`` when nothing can listen at ``bind`` now."""
    family, kind, protocol, _, address = socket.getaddrinfo(*bind, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind, protocol) as probe:
        # As servers do: a connection that lingers after the last run does not keep the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)
