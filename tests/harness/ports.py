"""Free ports on loopback, which test runs beside this one do not take."""

import contextlib
import fcntl
import itertools
import os
import random
import socket
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

RANGE = range(10_000, 32_768)
"""Below the ports that systems hand to outgoing connections: a member that dials a host which is away would otherwise
reach itself now and then, and keep the host from coming back."""

BLOCK = 256
"""Ports that one test run has to itself. It uses one again after all others, so that what is free stays so for long."""


def free_port() -> int:
    """A port that nobody listens on now, and that no other test run is given."""
    for port in itertools.islice(_own(), BLOCK):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError("no free port on loopback")


def claim_of(block: int) -> Path:
    """The file that the test run locks whose ports begin there."""
    return Path(tempfile.gettempdir(), f"chatfleet-test-ports-{block}")


@cache
def _own() -> Iterator[int]:
    """The ports of a block that this process has locked while it lives, again and again."""
    blocks = range(RANGE.start, RANGE.stop, BLOCK)
    for block in random.sample(blocks, len(blocks)):
        with contextlib.suppress(PermissionError):  # another user's
            claim = os.open(claim_of(block), os.O_RDWR | os.O_CREAT)
            try:
                fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(claim)
            else:
                return itertools.cycle(range(block, min(block + BLOCK, RANGE.stop)))
    raise OSError(f"other test runs use all ports from {RANGE.start} to {RANGE.stop - 1}")
