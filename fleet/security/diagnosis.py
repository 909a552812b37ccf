"""Why the host does not take a connection: gRPC says only that it was closed, so the handshake is tried once more."""

import asyncio
import contextlib
import socket
import ssl
from functools import partial

from fleet.security.identity import Identity

PATIENCE = 1.0
"""Seconds for each answer of the host: a process that is to end waits for the look to end."""

_HANDSHAKE = b"\x16"
"""First byte of an answer in TLS."""


async def refusal(address: tuple[str, int], identity: Identity | None) -> str | None:
    """What is wrong with this side's or the host's TLS, in words for a log; None when TLS is not what is wrong."""
    # In a thread, because OpenSSL tells the other side what it does not like only when it has the socket itself.
    look = partial(_with_tls, address, identity) if identity else partial(_without_tls, address)
    try:
        return await asyncio.to_thread(look)
    except (OSError, ValueError):  # such as a name that is none
        return None


def _with_tls(address: tuple[str, int], identity: Identity) -> str | None:
    context = identity.context()
    with socket.create_connection(address, PATIENCE) as connection:
        try:
            with context.wrap_socket(connection, server_hostname=address[0]) as tls:
                # A host that refuses a certificate says so only after the client's side of the handshake is done.
                return None if _hears(tls) else "the host does not take this member's certificate (FLEET_TLS_CERT)"
        except ssl.SSLCertVerificationError as error:
            return f"the host's certificate is not trusted: {error.verify_message.rstrip('.').lower()}"
        except ssl.SSLError as error:
            if error.reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"):
                return "the host speaks without TLS, FLEET_TLS_CA is set here"
            return f"TLS failed: {(error.reason or 'unknown').lower().replace('_', ' ')}"


def _hears(tls: ssl.SSLSocket) -> bool:
    try:
        return bool(tls.recv(1))
    except TimeoutError:
        return True  # it is slow, not gone
    except OSError:
        return False


def _without_tls(address: tuple[str, int]) -> str | None:
    with socket.create_connection(address, PATIENCE) as connection:
        connection.sendall(_client_hello())
        if connection.recv(1) != _HANDSHAKE:
            return None
    return "the host wants TLS: set FLEET_TLS_CA, FLEET_TLS_CERT and FLEET_TLS_KEY"


def _client_hello() -> bytes:
    """How TLS begins: enough to see whether the other side speaks it, without beginning a session."""
    sent = ssl.MemoryBIO()
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).wrap_bio(ssl.MemoryBIO(), sent, server_hostname="host")
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return sent.read()
