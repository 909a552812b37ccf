"""Settings from the environment: the part that every member shares, and :func:`load` for each process's own class."""

import difflib
import ipaddress
import os
import re
import sys
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Self, TypeVar

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from fleet.security.identity import Identity
from fleet.security.tokens import SHORTEST, TokenError, Tokens

BAD_SETTINGS = 2
"""Exit code after wrong settings. Starting again cannot help."""

WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104

SettingsT = TypeVar("SettingsT", bound=BaseSettings)


class HostPort(NamedTuple):
    """A TCP address. Prints as ``host:port``, with brackets around an IPv6 host."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it. False for every name but ``localhost``."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def reachable(self) -> "HostPort":
        """Where this machine reaches a server that listens here."""
        return HostPort(WILDCARDS.get(self.host, self.host), self.port)


def _host_port(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    host, colon, port = value.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    try:
        host.encode("idna")  # as every lookup of the name would
    except UnicodeError:
        host = ""
    if not colon or not host or not (port.isascii() and port.isdigit()) or not 0 < int(port) < 65536:
        raise ValueError("must be HOST:PORT, such as 127.0.0.1:8501")
    return HostPort(host, int(port))


def _plain(secret: SecretStr) -> SecretStr:
    value = secret.get_secret_value()
    if not value.isascii() or not value.isprintable() or " " in value:
        raise ValueError("must be printable ASCII without spaces or line ends")
    return secret


def _name(value: str) -> str:
    if value and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.-]{0,62}", value):
        raise ValueError("must be 1 to 63 letters, digits, dots and dashes, and begin with a letter or digit")
    return value


Address = Annotated[HostPort, NoDecode, BeforeValidator(_host_port), PlainSerializer(str)]
"""``HOST:PORT``."""

OptionalPath = Annotated[Path | None, BeforeValidator(lambda value: value or None)]
"""An empty variable means none."""


def _split(value: Any) -> Any:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


Listed = Annotated[list[str], NoDecode, BeforeValidator(_split)]
"""Texts that are separated by commas."""


class FleetSettings(BaseSettings):
    """What the host and every member read (``FLEET_*``)."""

    model_config = SettingsConfigDict(env_prefix="FLEET_", extra="ignore", frozen=True)

    host: Address = HostPort("127.0.0.1", 50051)
    """The host's address, as members dial it."""
    token: Annotated[SecretStr, AfterValidator(_plain)] | None = Field(default=None, min_length=SHORTEST)
    """Shared secret. A host with a token refuses members without it."""
    token_file: OptionalPath = None
    """A file of tokens, instead of ``token``: members send its first line, the host accepts every line."""
    tls_ca: OptionalPath = None
    """PEM certificates of the authorities that may sign the peer's certificate."""
    tls_cert: OptionalPath = None
    tls_key: OptionalPath = None
    member_name: Annotated[str, AfterValidator(_name)] = ""
    """What a gateway's or a worker's id begins with; by default the container's, the pod's or the machine's name."""
    link_timeout: float = Field(default=30.0, gt=0, le=3600)
    """Seconds that streams wait for a lost link to the host. Then they end in ``link_lost``."""
    log_level: str = Field(default="info", pattern="^(?i:debug|info|warning|error)$")
    log_format: str = Field(default="text", pattern="^(text|json)$")
    trace_content: bool = False
    """Whether spans of models and tools have prompts, replies, arguments and results, up to 8,192 characters each."""

    @model_validator(mode="after")
    def _check_security(self) -> Self:
        if self.token is not None and self.token_file is not None:
            raise ValueError("FLEET_TOKEN_FILE: FLEET_TOKEN is set too; unset one of them")
        try:
            self.tokens()
        except TokenError as error:
            raise ValueError(f"FLEET_TOKEN_FILE: {error}") from None
        given = {"FLEET_TLS_CA": self.tls_ca, "FLEET_TLS_CERT": self.tls_cert, "FLEET_TLS_KEY": self.tls_key}
        missing = [name for name, path in given.items() if path is None]
        if 0 < len(missing) < len(given):
            raise ValueError(f"{missing[0]}: missing; {', '.join(given)} go together")
        if (identity := self.identity()) is not None:
            identity.check()  # its error is a ValueError that names the variable
        return self

    def tokens(self) -> Tokens:
        """The tokens that the host accepts and members send."""
        return Tokens(self.token.get_secret_value() if self.token else None, self.token_file)

    def identity(self) -> Identity | None:
        """This member's certificate; None without TLS."""
        if self.tls_ca is None or self.tls_cert is None or self.tls_key is None:
            return None
        return Identity(self.tls_ca, self.tls_cert, self.tls_key)


def load(cls: type[SettingsT]) -> SettingsT:
    """Read ``cls`` from the environment. Bad values end the process with one line per variable (exit code 2).

    A variable with the class's prefix and almost the name of a setting is reported as a likely typo.
    """
    try:
        settings = cls()
    except ValidationError as error:
        print("\n".join(faults(cls, error)), file=sys.stderr)
        raise SystemExit(BAD_SETTINGS) from None
    for name, near in unknown(cls).items():
        if near:
            print(f"{name} is not a setting and is ignored; did you mean {near}?", file=sys.stderr)
    return settings


def faults(cls: type[BaseSettings], error: ValidationError) -> list[str]:
    """A line for each variable that has a bad value."""
    prefix = cls.model_config.get("env_prefix", "")
    lines = []
    for problem in error.errors(include_url=False, include_input=False):
        reason = problem["msg"].removeprefix("Value error, ")
        if problem["loc"]:  # errors about several variables name one themselves
            name = prefix + "_".join(str(part) for part in problem["loc"]).upper()
            reason = f"{name}: {reason[:1].lower()}{reason[1:]}"
        lines.append(reason)
    return lines


def unknown(cls: type[BaseSettings]) -> dict[str, str]:
    """Variables with the class's prefix that are no settings, each with the setting whose misspelling it may be."""
    prefix = cls.model_config.get("env_prefix", "")
    known = [prefix + name.upper() for name in cls.model_fields]
    found = [name for name in os.environ if name.startswith(prefix) and name not in known]
    return {name: "".join(difflib.get_close_matches(name, known, n=1, cutoff=0.9)) for name in found}
