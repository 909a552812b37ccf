"""Settings of a gateway process (``GATEWAY_*``)."""

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from fleet.settings import Address, HostPort, Listed


class GatewaySettings(BaseSettings):
    """Where the gateway listens, and its limits. Times are in seconds, sizes in bytes."""

    model_config = SettingsConfigDict(env_prefix="GATEWAY_", extra="ignore", frozen=True)

    bind: Address = HostPort("127.0.0.1", 8501)
    allow_anonymous: bool = False
    """Listen beyond loopback without keys: only where the network keeps unauthenticated clients out."""
    keys: Path | None = None
    """The file of API keys. If it is set, every chat needs a key. See ``python -m gateway keys new NAME``."""
    cors_origins: Listed = []
    """Web origins whose pages may use the APIs, separated by commas; ``*`` for all."""
    trusted_proxies: Listed = []
    """Addresses or networks whose ``X-Forwarded-*`` headers are trusted, separated by commas."""
    proxy_bind: Address | None = None
    """A second listening address, on which every connection begins with a PROXY protocol header."""
    max_headers: int = Field(default=64 * 1024, ge=1024, le=1024 * 1024)
    """Size of a request's headers."""
    header_timeout: float = Field(default=30.0, gt=0, le=3600)
    """Until a request's headers must have arrived, from its first byte or the connection's start."""
    default_model: str = ""
    """The model of requests that name none; empty means the first model of the worker that runs it."""
    max_body: int = Field(default=8 * 1024 * 1024, ge=1024, le=24 * 1024 * 1024)
    """Size of a request's body. The bus carries messages of up to 32 MiB."""
    body_timeout: float = Field(default=30.0, gt=0, le=3600)
    """Until a request's body must have arrived."""
    bodies_memory: int = Field(default=64 * 1024 * 1024, ge=1024 * 1024)
    """Size of all bodies together, each from its first byte until the reply's first token. If there is no room, the
    body that is being read and has cost most, in bytes times seconds, is refused with 503. Bodies over 64 KiB may use
    three quarters of it."""
    queue_limit: int = Field(default=1000, ge=0, le=1_000_000)
    """Requests that may wait for a worker. The next one gets 429; a retry displaces the latest one instead."""
    queue_timeout: float = Field(default=30.0, ge=0, le=3600)
    """How long a request may wait, over all its attempts."""
    request_timeout: float = Field(default=600.0, gt=0, le=86400)
    """From a request's arrival to its last token."""
    accept_timeout: float = Field(default=20.0, gt=0, le=600)
    """Until a worker must have accepted a request; then another one is tried. A last resort: workers that leave or fall
    silent, and lost links, are noticed much sooner."""
    first_token_timeout: float = Field(default=120.0, gt=0, le=86400)
    """From the acceptance to the first token."""
    token_timeout: float = Field(default=60.0, gt=0, le=86400)
    """Between two tokens, while the client reads."""
    stall_timeout: float = Field(default=30.0, gt=0, le=86400)
    """How long a client may read nothing of what waits for it."""
    max_attempts: int = Field(default=4, ge=1, le=100)
    """Attempts of a request before the first token, each on another worker if there is one."""
    drain_delay: float = Field(default=0.0, ge=0, le=600)
    """How long after SIGTERM new chats are still served, so that a balancer can notice: ``/readyz`` returns 503, and
    each answer closes its connection."""
    drain_timeout: float = Field(default=60.0, ge=0, le=86400)
    """How long running streams may go on after that."""
    hold_status: float = Field(default=10.0, ge=0, le=600)
    """How long the status line waits for the first token, so that an early failure gets its own status."""

    metrics_keys: bool = False
    """Count requests and tokens by the API key's name in ``/metrics``, where every holder of a key can read them."""

    @property
    def addresses(self) -> dict[str, HostPort]:
        """Where the gateway listens, by the variable that says so."""
        found = {"GATEWAY_BIND": self.bind}
        return found if self.proxy_bind is None else found | {"GATEWAY_PROXY_BIND": self.proxy_bind}

    def refusal(self) -> str:
        """Why the gateway must not start: clients of other machines could ask without a key."""
        reachable = [f"{name}: {address}" for name, address in self.addresses.items() if not address.is_loopback]
        if not reachable or self.keys is not None or self.allow_anonymous:
            return ""
        advice = "set GATEWAY_KEYS, or GATEWAY_ALLOW_ANONYMOUS=true if the network keeps unauthenticated clients out"
        return f"{reachable[0]} is reachable from other machines; {advice}"

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.bodies_memory * 3 // 4 < self.max_body:
            raise ValueError(f"GATEWAY_BODIES_MEMORY: must be at least 4/3 of GATEWAY_MAX_BODY, {self.max_body}")
        # By its port a connection is known to begin with a header.
        if self.proxy_bind is not None and self.proxy_bind.port in (0, self.bind.port):
            raise ValueError(f"GATEWAY_PROXY_BIND: must have a port that is not that of GATEWAY_BIND, {self.bind.port}")
        return self
