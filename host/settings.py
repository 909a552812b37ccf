"""Settings of the host process (``HOST_*``)."""

from pydantic_settings import BaseSettings, SettingsConfigDict

from fleet.settings import Address, HostPort


class HostSettings(BaseSettings):
    """Where the host listens, and what it insists on."""

    model_config = SettingsConfigDict(env_prefix="HOST_", extra="ignore", frozen=True)

    bind: Address = HostPort("127.0.0.1", 50051)
    allow_insecure: bool = False
    """Listen beyond loopback without ``FLEET_TOKEN``: only where the network itself keeps strangers out."""
