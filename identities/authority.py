"""The fleet's own certificate authority: makes and renews what members show each other."""

import contextlib
import datetime
import enum
import fcntl
import ipaddress
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fleet.security.tokens import MEMBERS, Token, Tokens

ROLES = ("host", "gateway", "worker")
HOST_NAMES = ("host", "localhost", "127.0.0.1")
"""What the host's certificate is always good for: compose's service, and the machine itself."""

CA_DAYS = 3650
CERT_DAYS = 365
RENEW_DAYS = 120
"""A certificate with fewer days left is renewed at the next :meth:`Authority.update`."""
BACKDATED = datetime.timedelta(hours=1)
"""Clocks of members may differ by this much."""


@dataclass(frozen=True)
class Report:
    """One thing that was changed, in words for the operator."""

    path: Path
    words: str


class Change(enum.Enum):
    """What the operator can ask for, with its help text."""

    NEW_AUTHORITY = "make another authority, trusted beside the old one, for --renew to use"
    RENEW = "make new certificates now"
    NEW_TOKEN = "make new tokens, one for each role; the host still accepts the old ones"  # noqa: S105
    REVOKE_OLD = "no longer accept the former authority and tokens"


class Authority:
    """Writes ``DIRECTORY/authority``, and for each role a folder with ``ca.pem``, ``cert.pem``, ``key.pem``, ``token``.

    A member's certificate and token name its role. The host's ``token`` holds the tokens of all roles. Files are
    replaced atomically, and only their owner can read them. Running members notice changes.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._ca = directory / "authority" / "ca.pem"
        self._key = directory / "authority" / "ca.key"

    def update(self, *changes: Change, host_names: Sequence[str] = ()) -> list[Report]:
        """Make what is missing, renew what expires soon or is asked for, in an order that locks no member out.

        Raises ``OSError`` where a file cannot be written, ``ValueError`` where one cannot be read.
        """
        # The lock lies in this folder because DIRECTORY may be read-only: in containers each folder is a volume.
        self._ca.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(os.open(self._ca.parent / ".lock", os.O_WRONLY | os.O_CREAT, 0o600), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            return self._update(changes, host_names)

    def _update(self, changes: Sequence[Change], host_names: Sequence[str]) -> list[Report]:
        reports = []
        if Change.NEW_AUTHORITY in changes or not self._is_whole():
            reports.append(self._make_authority())
        if Change.REVOKE_OLD in changes:
            _write(self._ca, _pem(_certificates(self._ca)[:1]))
            reports.append(Report(self._ca, "only the newest authority is trusted now"))
        names = list(dict.fromkeys([*HOST_NAMES, *host_names, *self._named("host")]))
        for role in ROLES:  # before any certificate, so that every member knows the authority of a new one
            _write(self._directory / role / "ca.pem", self._ca.read_bytes())
        for role in ROLES:
            wanted = names if role == "host" else [role]
            if Change.RENEW in changes or not self._is_good(role, wanted):
                reports.append(self._issue(role, wanted))
        return reports + self._update_tokens(changes)

    def _is_whole(self) -> bool:
        if not self._ca.exists() or not self._key.exists():
            return False
        authority = _certificates(self._ca)[0]
        return _fit(authority, self._key) and _days_left(authority) > CERT_DAYS

    def _make_authority(self) -> Report:
        old = _certificates(self._ca) if self._ca.exists() else []
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, "chatfleet"),
                x509.NameAttribute(NameOID.COMMON_NAME, f"chatfleet authority {secrets.token_hex(4)}"),
            ]
        )
        public = key.public_key()
        only = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        certificate = (
            _builder(name, name, public, CA_DAYS)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(only, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .sign(key, hashes.SHA256())
        )
        # The key first: if this fails halfway, a certificate without its key would be kept and could sign nothing.
        _write(self._key, _private(key))
        _write(self._ca, _pem([certificate, *old]))
        return Report(self._ca, f"made a certificate authority, good until {_until(certificate)}")

    def _issue(self, role: str, names: Sequence[str]) -> Report:
        authority = _certificates(self._ca)[0]
        signer = _read_key(self._key)
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"chatfleet {role}")])
        use = ExtendedKeyUsageOID.SERVER_AUTH if role == "host" else ExtendedKeyUsageOID.CLIENT_AUTH
        # The host asks its own health service as a client.
        uses = [use, ExtendedKeyUsageOID.CLIENT_AUTH] if role == "host" else [use]
        certificate = (
            _builder(subject, authority.subject, key.public_key(), CERT_DAYS)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
            .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
            .sign(signer, hashes.SHA256())
        )
        folder = self._directory / role
        _write(folder / "key.pem", _private(key))
        _write(folder / "cert.pem", _pem([certificate]))
        return Report(folder, f"made a certificate for {', '.join(names)}, good until {_until(certificate)}")

    def _named(self, role: str) -> list[str]:
        path = self._directory / role / "cert.pem"
        if not path.exists():
            return []
        try:
            named = _certificates(path)[0].extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except x509.ExtensionNotFound:
            return []
        return [str(name.value) for name in named]

    def _is_good(self, role: str, names: Sequence[str]) -> bool:
        folder = self._directory / role
        if not (folder / "cert.pem").exists() or not (folder / "key.pem").exists():
            return False
        certificate = _certificates(folder / "cert.pem")[0]
        return (
            _days_left(certificate) > RENEW_DAYS
            and _fit(certificate, folder / "key.pem")
            and certificate.issuer in [authority.subject for authority in _certificates(self._ca)]
            and set(names) <= set(self._named(role))
        )

    def _update_tokens(self, changes: Sequence[Change]) -> list[Report]:
        known = self._directory / "authority" / "token"
        tokens = Tokens(None, known).all() if known.exists() else []
        reports = []
        if Change.NEW_TOKEN in changes or not tokens:
            tokens = [*(Token(secrets.token_urlsafe(32), role) for role in MEMBERS), *tokens]
            reports.append(Report(known, f"made a token for each of {', '.join(MEMBERS)}"))
        own = {role: _newest(tokens, role) for role in MEMBERS}
        if Change.REVOKE_OLD in changes:
            tokens = list(dict.fromkeys(own.values()))
            reports.append(Report(known, "only the newest tokens are accepted now"))
        text = "".join(f"{token}\n" for token in tokens).encode()
        _write(known, text)
        # The host first: it must know a token before a member shows it.
        _write(self._directory / "host" / "token", text)
        for role, token in own.items():  # without the role, which members of the previous version do not understand
            _write(self._directory / role / "token", f"{token.secret}\n".encode())
        return reports


def _newest(tokens: Sequence[Token], role: str) -> Token:
    """The token that members of ``role`` show. A directory of a previous version has one for every role."""
    return next(token for token in tokens if token.role in (role, None))


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + datetime.timedelta(days=days))
    )


def _general_name(name: str) -> x509.GeneralName:
    with contextlib.suppress(ValueError):
        return x509.IPAddress(ipaddress.ip_address(name))
    return x509.DNSName(name)


def _fit(certificate: x509.Certificate, key: Path) -> bool:
    return certificate.public_key() == _read_key(key).public_key()


def _days_left(certificate: x509.Certificate) -> int:
    return (certificate.not_valid_after_utc - datetime.datetime.now(datetime.UTC)).days


def _read_key(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), None)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path.name} of {path.parent.name}: {error}") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError(f"{path.name} of {path.parent.name}: not a key that was made here")
    return key


def _certificates(path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path.name} of {path.parent.name}: {error}") from None


def _pem(certificates: Sequence[x509.Certificate]) -> bytes:
    return b"".join(certificate.public_bytes(serialization.Encoding.PEM) for certificate in certificates)


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    kind = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, kind, serialization.NoEncryption())


def _until(certificate: x509.Certificate) -> str:
    return certificate.not_valid_after_utc.date().isoformat()


def _write(path: Path, content: bytes) -> None:
    """Replace the file atomically, unless it has this content already."""
    if path.exists() and path.read_bytes() == content:
        return
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
