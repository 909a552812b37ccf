"""Why the host does not accept a connection: gRPC says only that it was closed, so the handshake is tried once more."""

import asyncio
import socket
import ssl
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from cryptography import x509

from fleet import logs
from fleet.security.identity import Identity

log = logs.logger(__name__)

ANSWER_TIMEOUT = 1.0
"""Seconds for each answer of the host. A process that is to end waits for the attempt."""

EVERY = 3.0
"""Seconds between two attempts."""

_PLAIN = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE")
"""What OpenSSL calls an answer that is not TLS."""


class Diagnosis:
    """Tells, for a host that cannot be joined, what TLS has to do with it."""

    def __init__(self) -> None:
        self._refusal: str | None = None
        self._due = float("-inf")

    async def refusal(self, address: tuple[str, int], identity: Identity | None) -> str | None:
        """As :func:`refusal`, asked at most every :data:`EVERY` seconds. Raises nothing."""
        now = time.monotonic()
        if now >= self._due:
            self._due = now + EVERY
            try:
                self._refusal = await refusal(address, identity)
            except Exception as error:  # a diagnosis must not end the attempts to join
                log.debug("no diagnosis", reason=type(error).__name__)
        return self._refusal


async def refusal(address: tuple[str, int], identity: Identity | None) -> str | None:
    """What is wrong with this side's or the host's TLS, for a log; None when TLS is not what is wrong."""
    # In a thread, because OpenSSL tells the other side what it does not like only when it has the socket itself; and in
    # one of its own, because a worker's default executor may be full of tools.
    thread = ThreadPoolExecutor(1)
    try:
        return await asyncio.get_running_loop().run_in_executor(thread, _handshake, address, identity)
    except (OSError, ValueError):  # such as a name that cannot be one
        return None
    finally:
        thread.shutdown(wait=False)


def _handshake(address: tuple[str, int], identity: Identity | None) -> str | None:
    context = _any_host() if identity is None else identity.context()
    with socket.create_connection(address, ANSWER_TIMEOUT) as connection:
        try:
            with context.wrap_socket(connection, server_hostname=address[0]) as tls:
                if identity is None:
                    return "the host wants TLS: set FLEET_TLS_CA, FLEET_TLS_CERT and FLEET_TLS_KEY"
                # A host that refuses a certificate says so only after the client's side of the handshake is done.
                return None if _stays_open(tls) else _own_certificate(identity)
        except ssl.SSLCertVerificationError as error:
            return f"the host's certificate is not trusted: {error.verify_message.rstrip('.').lower()}"
        except ssl.SSLError as error:
            if identity is None:
                return None
            if error.reason in _PLAIN:
                return "the host speaks without TLS, FLEET_TLS_CA is set here"
            return f"TLS failed: {(error.reason or 'unknown').lower().replace('_', ' ')}"


def _own_certificate(identity: Identity) -> str:
    ends = x509.load_pem_x509_certificate(identity.cert.read_bytes()).not_valid_after_utc
    ended = f", which ended on {ends:%Y-%m-%d}" if ends < datetime.now(UTC) else ""
    return f"the host does not take this member's certificate (FLEET_TLS_CERT){ended}"


def _any_host() -> ssl.SSLContext:
    """Only to see whether the host speaks TLS: nothing is sent to it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _stays_open(tls: ssl.SSLSocket) -> bool:
    try:
        return bool(tls.recv(1))
    except TimeoutError:
        return True  # it is slow, not gone
    except OSError:
        return False
