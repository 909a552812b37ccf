"""Free ports on loopback."""

import random
import socket

RANGE = range(10_000, 32_768)
"""Below the ports that systems hand to outgoing connections: a member that dials a host which is away would otherwise
reach itself now and then, and keep the host from coming back."""


def free_port() -> int:
    """A port that nobody listens on now."""
    for port in random.sample(RANGE, 200):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError("no free port on loopback")
