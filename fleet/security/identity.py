"""A member's certificate, its key, and the authority that it trusts, as gRPC's and Python's TLS want them."""

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fleet import logs
from fleet.process import files

log = logs.logger(__name__)


class IdentityError(ValueError):
    """A TLS file cannot be read or used, or does not fit the others; the text names variable and file."""


@dataclass(frozen=True)
class Identity:
    """Where the three PEM files lie. They are read again for every connection, so that they can be replaced."""

    ca: Path
    """Certificates of the authorities that the other side's must come from; more than one while they change."""
    cert: Path
    key: Path

    def check(self) -> None:
        self.context()

    def context(self) -> ssl.SSLContext:
        """For Python's TLS, as a client that asks for HTTP/2. Raises :class:`IdentityError`."""
        context = self._load(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
        context.set_alpn_protocols(["h2"])
        return context

    def server_context(self) -> ssl.SSLContext:
        """For Python's TLS, as a server that insists on a certificate. Raises :class:`IdentityError`."""
        context = self._load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
        context.verify_mode = ssl.CERT_REQUIRED
        context.num_tickets = 0  # a resumed session would outlive a change of authorities
        return context

    def _load(self, context: ssl.SSLContext) -> ssl.SSLContext:
        try:
            files.must_be_regular(self.ca)
            context.load_verify_locations(self.ca)
        except (OSError, ssl.SSLError) as error:
            raise IdentityError(f"FLEET_TLS_CA: {self.ca}: {_why(self.ca, error)}") from None
        for name, path in (("CERT", self.cert), ("KEY", self.key)):
            try:
                files.must_be_regular(path)
                path.read_bytes()
            except OSError as error:
                raise IdentityError(f"FLEET_TLS_{name}: {path}: {files.reason(path, error)}") from None
        try:
            # Without one, OpenSSL would ask for a password at the terminal.
            context.load_cert_chain(self.cert, self.key, password="")
        except ssl.SSLError as error:
            if error.reason == "KEY_VALUES_MISMATCH":
                raise IdentityError(f"FLEET_TLS_KEY: {self.key} is not the key of {self.cert}") from None
            wrong = "are not a PEM certificate that OpenSSL accepts and its key without a password"
            raise IdentityError(f"FLEET_TLS_CERT, FLEET_TLS_KEY: {self.cert} and {self.key} {wrong}") from None
        return context

    def channel_credentials(self) -> Any:
        """What a member dials with. Raises :class:`IdentityError`."""
        import grpc  # here, because the embedded model reads settings too and has no gRPC

        self.check()
        return grpc.ssl_channel_credentials(self.ca.read_bytes(), self.key.read_bytes(), self.cert.read_bytes())

    def server_credentials(self) -> Any:
        """What the host listens with. It insists on a certificate and uses replaced files from the next connection on.

        Raises :class:`IdentityError`; files that become unusable later are reported once and change nothing.
        """
        import grpc

        changes = files.Changes(self.stamp)

        def changed() -> Any:  # asked by gRPC before every handshake; None: as before
            try:
                stamp = changes.found()
                if stamp is None:
                    return None
                configuration = self._configuration()
                if self.stamp() != stamp:  # changed while it was read
                    return None
            except (OSError, IdentityError) as error:
                # Three files cannot be replaced at once: what does not fit yet may fit at the next connection.
                if changes.refuse(str(error)):
                    log.warning("changed TLS files cannot be used, going on with the old ones", reason=str(error))
                return None
            changes.accept(stamp)
            log.info("using changed TLS files")
            return configuration

        return grpc.dynamic_ssl_server_credentials(self._configuration(), changed, require_client_authentication=True)

    def _configuration(self) -> Any:
        import grpc

        self.check()
        pair = (self.key.read_bytes(), self.cert.read_bytes())
        return grpc.ssl_server_certificate_configuration([pair], self.ca.read_bytes())

    def stamp(self) -> tuple[files.Stamp, ...]:
        return tuple(files.stamp(path) for path in (self.ca, self.cert, self.key))


class ServerContext:
    """The context that a server uses now: read again when one of its files changed, and only then.

    Raises :class:`IdentityError` at construction; files that become unusable later change nothing.
    """

    def __init__(self, identity: Identity) -> None:
        identity.check()
        self._identity = identity
        self._changes = files.Changes(identity.stamp)
        self._context = identity.server_context()

    def __call__(self) -> ssl.SSLContext:
        try:
            stamp = self._changes.found()
            if stamp is not None:
                self._context = self._identity.server_context()
                self._changes.accept(stamp)
        except (OSError, IdentityError) as error:
            # What does not fit yet may fit at the next connection; gRPC's side reports it.
            self._changes.refuse(str(error))
        return self._context


def _why(path: Path, error: OSError) -> str:
    return "holds no PEM certificates" if isinstance(error, ssl.SSLError) else files.reason(path, error)
