"""Settings of a gateway process (``GATEWAY_*``)."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from fleet.settings import Address, HostPort


class GatewaySettings(BaseSettings):
    """Where the gateway listens, and how long and how much it lets things wait. Times are seconds."""

    model_config = SettingsConfigDict(env_prefix="GATEWAY_", extra="ignore", frozen=True)

    bind: Address = HostPort("127.0.0.1", 8501)
    allow_anonymous: bool = False
    """Listen beyond loopback although anybody may ask: only where the network itself keeps strangers out."""
    keys: Path | None = None
    """The file of API keys; with one, every chat needs a key. See ``python -m gateway keys new NAME``."""
    cors_origins: Annotated[list[str], NoDecode] = []
    """Web origins whose pages may ask, separated by commas; ``*`` for all."""
    trusted_proxies: Annotated[list[str], NoDecode] = []
    """Addresses or networks whose ``X-Forwarded-*`` headers are believed, separated by commas."""
    max_headers: int = Field(default=64 * 1024, ge=1024, le=1024 * 1024)
    """Bytes of a request's headers."""
    header_timeout: float = Field(default=30.0, gt=0, le=3600)
    """Until a connection's request, up to the end of its headers, must have arrived."""
    default_model: str = ""
    """What a request without ``model`` gets; empty means the first model of the worker that takes it."""
    max_body: int = Field(default=8 * 1024 * 1024, ge=1024, le=24 * 1024 * 1024)
    """Bytes of a request's body; the bus carries messages of 32 MiB at the most."""
    body_timeout: float = Field(default=30.0, gt=0, le=3600)
    """Until a request's body must have arrived."""
    bodies_memory: int = Field(default=64 * 1024 * 1024, ge=1024 * 1024)
    """Bytes of all bodies that are held: from their first byte on until the reply's first token. What finds no room is
    refused with 503, unless a body that is still being read has cost more: then that one is. Bodies over 64 KiB may use
    three quarters of it."""
    queue_limit: int = Field(default=1000, ge=0, le=1_000_000)
    """Requests that may wait for a worker with room; the next one gets 429, or the latest if one comes again."""
    queue_timeout: float = Field(default=30.0, ge=0, le=3600)
    """For how long one may wait, in all its attempts together."""
    request_timeout: float = Field(default=600.0, gt=0, le=86400)
    """From a request's arrival to its last token."""
    accept_timeout: float = Field(default=20.0, gt=0, le=600)
    """Until a worker must have taken a request on, else another one is asked. Only the last resort: a worker that
    leaves or falls silent, or a link that is lost, is noticed much sooner."""
    first_token_timeout: float = Field(default=120.0, gt=0, le=86400)
    """From there to the first token."""
    token_timeout: float = Field(default=60.0, gt=0, le=86400)
    """Between two tokens, while the client reads."""
    stall_timeout: float = Field(default=30.0, gt=0, le=86400)
    """For how long a client may read nothing of what waits for it."""
    max_attempts: int = Field(default=4, ge=1, le=100)
    """Workers that are asked, one after the other, before the first token."""
    drain_delay: float = Field(default=0.0, ge=0, le=600)
    """For how long after SIGTERM new chats are still served, while ``/readyz`` says 503 and each answer closes its
    connection: until the balancer in front has noticed."""
    drain_timeout: float = Field(default=60.0, ge=0, le=86400)
    """For how long running streams may go on after that."""
    hold_status: float = Field(default=10.0, ge=0, le=600)
    """For how long the status line waits for the first token, so that an early failure gets its real status."""

    @model_validator(mode="after")
    def _hold_one_body(self) -> Self:
        if self.bodies_memory * 3 // 4 < self.max_body:
            raise ValueError(f"GATEWAY_BODIES_MEMORY: must be at least 4/3 of GATEWAY_MAX_BODY, {self.max_body}")
        return self

    @field_validator("cors_origins", "trusted_proxies", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value
