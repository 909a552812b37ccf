"""Settings of a worker process (``WORKER_*``)."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from fleet.settings import Address, Listed, OptionalPath


class WorkerSettings(BaseSettings):
    """What a worker serves, and how many requests concurrently."""

    model_config = SettingsConfigDict(env_prefix="WORKER_", extra="ignore", frozen=True)

    models: Path = Path("models.yaml")
    """The models it serves; see ``models.yaml``."""
    agents: Path = Path("agents.yaml")
    """The agents it serves beside them, if the file is there; see ``docs/agents.md``."""
    serve: Listed = []
    """The public names of models and agents that it serves, separated by commas; empty means all."""
    secrets: OptionalPath = None
    """A folder of files, each of which holds the value of the environment variable that it is named after."""
    capacity: int = Field(default=512, ge=1, le=100_000)
    """Chats at once; further ones wait at the gateway or go elsewhere."""
    tool_threads: int = Field(default=32, ge=1, le=1000)
    """Agents' tools that are plain functions, and run at once; further ones wait."""
    flush_interval: float = Field(default=0.01, ge=0, le=1)
    """Seconds between two batches of chunks; a reply's first token never waits for it."""
    drain_timeout: float = Field(default=60.0, ge=0, le=86400)
    """Seconds that running chats may take to end after SIGTERM."""
    gateway_timeout: float = Field(default=15.0, ge=1, le=3600)
    """Seconds without an answer after which a gateway counts as gone and its chats are cancelled. More than the 10 s
    in which a half-open connection is noticed."""
    image_pixels: int = Field(default=40_000_000, ge=1, le=10**9)
    """Pixels that the images of one request may have in all, for a model whose client reads images."""
    health_bind: Address | None = None
    """Where health checks and metrics are served (``/healthz``, ``/readyz``, ``/metrics``)."""
