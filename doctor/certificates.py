"""Certificates, keys and tokens: until when they are valid, for whom, and whether they fit each other."""

import datetime
from collections.abc import Iterator
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import NameOID

from doctor.findings import Finding, counted, ok, problem, warning
from fleet.process import files
from fleet.security.identity import Identity, IdentityError
from fleet.security.tokens import TokenError, Tokens
from fleet.settings import FleetSettings

SOON = 30
"""Days that are left when one should act; `python -m fleet.security` renews what has fewer than 120."""

RENEW = "renew it: make identities ARGS=--renew (in Compose: docker compose up -d init), and copy it to its machines"
ROLES = ("host", "gateway", "worker")
PRIVATE = "others on this machine can read it: chmod 600"


def of_process(fleet: FleetSettings, who: str, kind: str) -> Iterator[Finding]:
    """What a process shows the others. Call it in its surroundings."""
    identity = fleet.identity()
    if identity is not None:
        yield from _identity(identity, who, kind)
    elif not fleet.host.is_loopback:
        yield warning(f"{who}: no TLS to {fleet.host}", "prompts and the token are sent as they are: make identities")
    if fleet.token_file is not None:
        yield from _token_file(fleet.token_file, who)


def of_folder(folder: Path) -> Iterator[Finding]:
    """Every role's files as ``python -m fleet.security`` makes them."""
    for role in ROLES:
        place = folder / role
        if (place / "cert.pem").exists():
            identity = Identity(place / "ca.pem", place / "cert.pem", place / "key.pem")
            yield from _identity(identity, str(place), role)
            if (place / "token").exists():
                yield from _token_file(place / "token", str(place))


def _identity(identity: Identity, who: str, kind: str) -> Iterator[Finding]:
    for path in (identity.ca, identity.cert, identity.key):
        try:
            files.must_be_regular(path)
            path.read_bytes()
        except OSError as error:
            is_closed = isinstance(error, PermissionError)
            advice = "give it to the user of the process" if is_closed else "make identities makes one"
            yield problem(f"{who}: {path} cannot be read: {files.reason(path, error)}", advice)
            return
    try:
        identity.check()
        authorities = x509.load_pem_x509_certificates(identity.ca.read_bytes())
        certificate = x509.load_pem_x509_certificates(identity.cert.read_bytes())[0]
    except (IdentityError, ValueError) as error:
        yield problem(f"{who}: {error}", "copy all three files of one folder of identities/ again")
        return
    yield _validity(certificate, f"{who}: {identity.cert}", f" for {', '.join(_names(certificate)) or 'no name'}")
    if not any(_signed(certificate, authority) for authority in authorities):
        advice = "both come from one run of make identities: copy ca.pem and cert.pem of one folder"
        yield problem(f"{who}: no authority in {identity.ca} has signed {identity.cert}", advice)
    for authority in authorities:
        if (finding := _validity(authority, f"{who}: an authority in {identity.ca}")).advice:
            yield finding
    if kind in ROLES and (other := _other_role(certificate, kind)):
        yield problem(f"{who}: {identity.cert} is the certificate of a {other}", f"use the folder identities/{kind}")
    if identity.key.stat().st_mode & 0o077:
        yield warning(f"{who}: {identity.key} has mode {identity.key.stat().st_mode & 0o777:o}", PRIVATE)


def _validity(certificate: x509.Certificate, what: str, names: str = "") -> Finding:
    now = datetime.datetime.now(datetime.UTC)
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now < begins:
        return problem(
            f"{what} is valid from {begins:%Y-%m-%d %H:%M} on", f"here it is {now:%Y-%m-%d %H:%M}: set the clock"
        )
    if now > ends:
        return problem(f"{what} ended on {ends:%Y-%m-%d}", RENEW)
    days = (ends - now).days
    if days < SOON:
        return warning(f"{what} ends on {ends:%Y-%m-%d} (days left: {days})", RENEW)
    return ok(f"{what} is valid{names}, for another {days} days")


def _signed(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _names(certificate: x509.Certificate) -> list[str]:
    try:
        named = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [str(name.value) for name in named]


def _other_role(certificate: x509.Certificate, kind: str) -> str:
    """The role that a certificate of ours names, if it is another. Certificates of others name none."""
    (name, *_) = [str(found.value) for found in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)] or [""]
    role = name.removeprefix("chatfleet ")
    return role if role in ROLES and role != kind else ""


def _token_file(path: Path, who: str) -> Iterator[Finding]:
    try:
        tokens = Tokens(None, path).all()
        mode = path.stat().st_mode & 0o777
    except (TokenError, OSError) as error:
        yield problem(f"{who}: {error}", "make identities makes one; the process's user must be able to read it")
        return
    yield ok(f"{who}: {path} holds {counted(len(tokens), 'token')}")
    if mode & 0o077:
        yield warning(f"{who}: {path} has mode {mode:o}", PRIVATE)
