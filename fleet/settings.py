"""Settings from the environment: one class per process, and the part that every member shares.

A bad value ends the process with one line that names the variable: see :func:`load`.
"""

import difflib
import ipaddress
import os
import sys
from typing import Annotated, Any, NamedTuple, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

BAD_SETTINGS = 2
"""Exit code of a process whose settings are wrong: starting it again cannot help."""

SettingsT = TypeVar("SettingsT", bound=BaseSettings)


class HostPort(NamedTuple):
    """A TCP address; printed as ``host:port``, with brackets around an IPv6 host."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it. Names other than ``localhost`` count as reachable from outside."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def _host_port(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    host, colon, port = value.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not (port.isascii() and port.isdigit()) or not 0 < int(port) < 65536:
        raise ValueError("must be HOST:PORT, such as 127.0.0.1:8501")
    return HostPort(host, int(port))


def _plain(secret: SecretStr) -> SecretStr:
    value = secret.get_secret_value()
    if not value.isascii() or not value.isprintable() or " " in value:
        raise ValueError("must be printable ASCII without spaces or line ends")
    return secret


Address = Annotated[HostPort, NoDecode, BeforeValidator(_host_port), PlainSerializer(str)]
"""A setting of the form ``HOST:PORT``."""


class FleetSettings(BaseSettings):
    """What every member of the fleet reads (``FLEET_*``)."""

    model_config = SettingsConfigDict(env_prefix="FLEET_", extra="ignore", frozen=True)

    host: Address = HostPort("127.0.0.1", 50051)
    """Where the host listens, as the members see it."""
    token: Annotated[SecretStr, AfterValidator(_plain)] | None = Field(default=None, min_length=16)
    """Shared secret of the fleet. A host with a token refuses members without it."""
    link_timeout: float = Field(default=30.0, gt=0, le=3600)
    """Seconds that streams wait for a lost link to the host before they end in ``link_lost``."""
    log_level: str = Field(default="info", pattern="^(?i:debug|info|warning|error)$")
    log_format: str = Field(default="text", pattern="^(text|json)$")


def load(cls: type[SettingsT]) -> SettingsT:
    """Read ``cls`` from the environment, or end the process with one line per bad variable (exit code 2).

    A variable that carries the class's prefix and nearly the name of a setting is reported as a likely slip.
    """
    prefix = cls.model_config.get("env_prefix", "")
    try:
        settings = cls()
    except ValidationError as error:
        for problem in error.errors(include_url=False, include_input=False):
            name = prefix + "_".join(str(part) for part in problem["loc"]).upper()
            reason = problem["msg"].removeprefix("Value error, ")
            print(f"{name}: {reason[:1].lower()}{reason[1:]}", file=sys.stderr)
        raise SystemExit(BAD_SETTINGS) from None
    known = [prefix + name.upper() for name in cls.model_fields]
    for name in os.environ:
        if name.startswith(prefix) and name not in known:
            for near in difflib.get_close_matches(name, known, n=1, cutoff=0.9):
                print(f"{name} is not a setting and is ignored; did you mean {near}?", file=sys.stderr)
    return settings
