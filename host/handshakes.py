"""Makes log lines of failed TLS handshakes, of which gRPC tells nobody but its own standard error.

gRPC 1.70 decides on certificates in its C core, before any Python of ours sees the connection, and writes one line
about each failure to file descriptor 2, if it is told to. So that descriptor becomes a pipe here: such lines are logged
as this fleet's refusals, all others pass through. ``tests/integration/test_member_security.py`` fails when the core's
words change.
"""

import atexit
import contextlib
import faulthandler
import os
import re
import sys
import threading
from collections.abc import Callable

from fleet import logs
from fleet.process.repeats import Repeats

log = logs.logger(__name__)

_FAILED = re.compile(rb"Handshake failed with .*?error:\w+:SSL routines:OPENSSL_internal:(\w+)")
_IDLE = re.compile(rb"I\d{4} |WARNING: All log messages before absl::|W\d{4} .*Log level INFO is not suitable")
"""What else the core says at the level that is needed for the lines about handshakes."""
_REASONS = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "it shows no certificate",
    "CERTIFICATE_VERIFY_FAILED": "its certificate is not of an authority in FLEET_TLS_CA, or has ended",
    "WRONG_VERSION_NUMBER": "it speaks without TLS",
    "HTTP_REQUEST": "it speaks without TLS",
    "BAD_PACKET_LENGTH": "it broke off, as those do that do not trust this host's certificate",
    "TLSV1_ALERT_UNKNOWN_CA": "it does not trust this host's certificate",
    "SSLV3_ALERT_BAD_CERTIFICATE": "it does not trust this host's certificate",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "it does not trust this host's certificate",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "it takes this host's certificate for ended",
}


class HandshakeLog:
    """Takes what the core writes, line by line, and says each reason once a minute."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._repeats = Repeats()  # a refused member tries about once a second

    def line(self, line: bytes) -> bytes:
        """What is left of a line to be shown as it is: nothing, when it was about a handshake."""
        failed = _FAILED.search(line)
        if failed is None:
            return b"" if _IDLE.match(line) else line
        code = failed[1].decode()
        reason = _REASONS.get(code) or code.lower().replace("_", " ")
        if self._repeats.is_new(reason):
            self._say(reason)
        return b""


def watch() -> None:
    """Put the pipe in place, until the process ends. Call it before logging is set up: Python's own standard error
    goes past the pipe from here on. What the core says in the very moment in which it crashes can be lost."""
    try:
        shown = os.dup(2)
    except OSError:
        return  # nobody listens
    os.environ["GRPC_VERBOSITY"] = "info"
    read, write = os.pipe()
    os.dup2(write, 2)
    os.close(write)
    sys.stderr = os.fdopen(shown, "w", buffering=1, encoding="utf-8", errors="backslashreplace")
    if faulthandler.is_enabled():
        faulthandler.enable(shown)
    reader = threading.Thread(target=_read, args=(read, shown), name="handshakes", daemon=True)
    reader.start()
    atexit.register(_unwatch, shown, reader)


def _unwatch(shown: int, reader: threading.Thread) -> None:
    os.dup2(shown, 2)  # closes the pipe's last writing end, so that the reader comes to an end
    reader.join(1)


def _read(read: int, shown: int) -> None:
    handshakes = HandshakeLog(lambda reason: log.warning("refused a member", reason=reason))
    with os.fdopen(read, "rb") as lines:
        for line in lines:
            if rest := handshakes.line(line):
                with contextlib.suppress(OSError):
                    os.write(shown, rest)
