"""What the launcher reads from the environment, and the environment of the processes it starts."""

from collections.abc import Mapping

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from fleet.settings import Address, HostPort

DRAIN = "2"
"""Default drain timeout of gateways and workers here, in seconds. With their usual minute they would be killed first,
and their streams would end without a word."""


HEALTH = "WORKER_HEALTH_BIND"


class LauncherSettings(BaseSettings):
    """How many workers to run, and the addresses that must be free. The processes read all other settings."""

    model_config = SettingsConfigDict(env_ignore_empty=True, extra="ignore", frozen=True)

    workers: int = Field(default=2, ge=1, le=256)
    host_bind: Address = HostPort("127.0.0.1", 50051)
    host_relay_bind: Address | None = None
    fleet_host: Address = HostPort("127.0.0.1", 50051)
    gateway_bind: Address = HostPort("127.0.0.1", 8501)
    model_bind: Address = HostPort("127.0.0.1", 8502)
    host_health_bind: Address | None = None
    worker_health_bind: Address | None = None
    model_slots: int = 4

    @property
    def host(self) -> HostPort:
        """Where the host listens. Setting one of its two variables moves the host and its members."""
        moved = "fleet_host" in self.model_fields_set and "host_bind" not in self.model_fields_set
        return self.fleet_host if moved else self.host_bind

    def binds(self) -> list[tuple[str, str, HostPort]]:
        """Services that listen, each with a variable for an address and the address."""
        relay = self.host_relay_bind
        if relay is None and not self.host.is_loopback:
            relay = HostPort(self.host.host, self.host.port + 1)
        return [
            ("gateway", "GATEWAY_BIND", self.gateway_bind),
            ("host", "HOST_BIND", self.host),
            *([("host", "HOST_RELAY_BIND", relay)] if relay is not None else []),
            ("model", "MODEL_BIND", self.model_bind),
            *([("host", "HOST_HEALTH_BIND", self.host_health_bind)] if self.host_health_bind is not None else []),
            *(("worker", HEALTH, bind) for bind in self._health_of_workers()),
        ]

    def own(self, name: str) -> dict[str, str]:
        """What only the instance ``name`` gets: each worker a port of its own for its health and metrics."""
        health = {f"worker.{number}": bind for number, bind in enumerate(self._health_of_workers(), 1)}
        return {HEALTH: str(health[name])} if name in health else {}

    def _health_of_workers(self) -> list[HostPort]:
        first = self.worker_health_bind
        return [] if first is None else [HostPort(first.host, first.port + after) for after in range(self.workers)]

    def environment(self, inherited: Mapping[str, str]) -> dict[str, str]:
        """The processes' environment: ``inherited``, with defaults that follow from the addresses."""
        implied = {
            "HOST_BIND": str(self.host),
            "FLEET_HOST": str(self.host.reachable),
            "MODEL_URL": f"http://{self.model_bind.reachable}/v1",
            "GATEWAY_DRAIN_TIMEOUT": DRAIN,
            "WORKER_DRAIN_TIMEOUT": DRAIN,
            "PYTHONUNBUFFERED": "1",
        }
        return implied | dict(inherited)
