"""What the launcher reads, and what its children read in turn."""

from collections.abc import Mapping

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from fleet.settings import Address, HostPort

DRAIN = "2"
"""Seconds that running chats get once the stack is told to end, unless a setting says otherwise: a gateway that drains
for its usual minute would be killed, and its streams would end in silence."""

WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104


class LauncherSettings(BaseSettings):
    """How many workers, and the addresses that must be free. The other settings are the children's own affair."""

    model_config = SettingsConfigDict(env_ignore_empty=True, extra="ignore", frozen=True)

    workers: int = Field(default=2, ge=1, le=256)
    host_bind: Address = HostPort("127.0.0.1", 50051)
    fleet_host: Address = HostPort("127.0.0.1", 50051)
    gateway_bind: Address = HostPort("127.0.0.1", 8501)
    model_bind: Address = HostPort("127.0.0.1", 8502)

    @property
    def host(self) -> HostPort:
        """Where the host listens. One of its two variables is enough to move it together with its members."""
        moved = "fleet_host" in self.model_fields_set and "host_bind" not in self.model_fields_set
        return self.fleet_host if moved else self.host_bind

    def binds(self) -> dict[str, tuple[str, HostPort]]:
        """For each process that listens, the variable that moves it and its address."""
        return {
            "gateway": ("GATEWAY_BIND", self.gateway_bind),
            "host": ("HOST_BIND", self.host),
            "model": ("MODEL_BIND", self.model_bind),
        }

    def environment(self, inherited: Mapping[str, str]) -> dict[str, str]:
        """The children's environment: what we have, and what follows from the addresses where nothing is said."""
        implied = {
            "HOST_BIND": str(self.host),
            "FLEET_HOST": str(reachable(self.host)),
            "MODEL_URL": f"http://{reachable(self.model_bind)}/v1",
            "GATEWAY_DRAIN_TIMEOUT": DRAIN,
            "WORKER_DRAIN_TIMEOUT": DRAIN,
            "PYTHONUNBUFFERED": "1",
        }
        return implied | dict(inherited)


def reachable(bind: HostPort) -> HostPort:
    """The address under which this machine reaches what listens at ``bind``."""
    return HostPort(WILDCARDS.get(bind.host, bind.host), bind.port)
