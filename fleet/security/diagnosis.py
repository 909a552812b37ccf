"""Why the host does not take a connection: gRPC says only that it was closed, so the handshake is tried once more."""

import asyncio
import contextlib
import ssl

from fleet.security.identity import Identity, IdentityError

PATIENCE = 2.0
"""Seconds for the handshake, and for what follows it."""

_HANDSHAKE = b"\x16"
"""First byte of an answer in TLS."""


async def refusal(address: tuple[str, int], identity: Identity | None) -> str | None:
    """What is wrong with this side's or the host's TLS, in words for a log; None when TLS is not what is wrong."""
    try:
        async with asyncio.timeout(PATIENCE):
            return await (_with_tls(address, identity) if identity else _without_tls(address))
    except (OSError, TimeoutError, IdentityError):
        return None


async def _with_tls(address: tuple[str, int], identity: Identity) -> str | None:
    try:
        reader, writer = await asyncio.open_connection(
            *address, ssl=identity.context(), server_hostname=address[0], ssl_handshake_timeout=PATIENCE
        )
    except ssl.SSLCertVerificationError as error:
        return f"the host's certificate is not trusted: {error.verify_message.rstrip('.').lower()}"
    except ssl.SSLError as error:
        if error.reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"):
            return "the host speaks without TLS, FLEET_TLS_CA is set here"
        return f"TLS failed: {(error.reason or 'unknown').lower().replace('_', ' ')}"
    try:
        # A host that refuses a certificate says so only after the client's side of the handshake is done.
        taken = bool(await reader.read(1))
    except OSError:
        taken = False
    finally:
        await _close(writer)
    return None if taken else "the host does not take this member's certificate (FLEET_TLS_CERT)"


async def _without_tls(address: tuple[str, int]) -> str | None:
    reader, writer = await asyncio.open_connection(*address)
    try:
        writer.write(_client_hello())
        answer = await reader.read(1)
    finally:
        await _close(writer)
    return "the host wants TLS: set FLEET_TLS_CA, FLEET_TLS_CERT and FLEET_TLS_KEY" if answer == _HANDSHAKE else None


def _client_hello() -> bytes:
    """How TLS begins: enough to see whether the other side speaks it, without beginning a session."""
    sent = ssl.MemoryBIO()
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).wrap_bio(ssl.MemoryBIO(), sent, server_hostname="host")
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return sent.read()


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
