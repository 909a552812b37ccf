"""Settings of the host process (``HOST_*``)."""

from typing import Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from fleet.bus.link import MESSAGE_BYTES
from fleet.settings import Address, HostPort
from host.roles import STOCK_BYTES


class HostSettings(BaseSettings):
    """Where the host listens, and what it insists on."""

    model_config = SettingsConfigDict(env_prefix="HOST_", extra="ignore", frozen=True)

    bind: Address = HostPort("127.0.0.1", 50051)
    relay_bind: Address | None = None
    """Where members open their relays; by default at the port after ``HOST_BIND``, and on loopback, where no firewall
    must know it, at any free port. Members are told the port alone and dial it at the address that they have for the
    host."""
    health_bind: Address | None = None
    """Where health checks and metrics are served (``/healthz``, ``/readyz``, ``/metrics``)."""
    max_message: int = Field(default=STOCK_BYTES, ge=STOCK_BYTES, le=MESSAGE_BYTES)
    """Bytes of a message between AutoGen's own members. If more than the default, each must be able to receive it."""
    drain_timeout: float = Field(default=0.0, ge=0, le=3600)
    """Seconds after SIGTERM for which it serves members that drain too; 0 means that it stops at once."""
    allow_insecure: bool = False
    """Listen beyond loopback without ``FLEET_TOKEN``: only where the network itself keeps others out."""

    @model_validator(mode="after")
    def _check_relay(self) -> Self:
        if self.relay.port > 65535:
            raise ValueError("HOST_RELAY_BIND: missing; there is no port after that of HOST_BIND")
        if self.relay == self.bind:
            raise ValueError("HOST_RELAY_BIND: must not be HOST_BIND")
        return self

    def refusal(self, has_tokens: bool) -> str:
        """Why the host must not start: anyone on the network could join."""
        if self.bind.is_loopback or has_tokens or self.allow_insecure:
            return ""
        advice = "set FLEET_TOKEN or FLEET_TOKEN_FILE (or HOST_ALLOW_INSECURE=true)"
        return f"HOST_BIND: {self.bind} is reachable from other machines; {advice}"

    @property
    def relay(self) -> HostPort:
        return self.relay_bind or HostPort(self.bind.host, 0 if self.bind.is_loopback else self.bind.port + 1)
