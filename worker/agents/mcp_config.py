"""How a worker reaches an MCP server. Apart from the server, whose SDK takes 0.3 s to import."""

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class McpConfig(BaseModel):
    """One server: ``command`` for one that is a process, ``url`` for one that speaks streamable HTTP."""

    model_config = ConfigDict(extra="forbid", strict=True)

    command: str | None = Field(default=None, min_length=1)
    args: list[str] = Field(default_factory=list)
    env: dict[str, str] | None = None
    cwd: str | None = None
    url: str | None = Field(default=None, pattern="^https?://")
    headers: dict[str, str] = Field(default_factory=dict)
    start_timeout: float = Field(default=30.0, gt=0)
    """Seconds that its start may take, and that an agent waits for its tools."""
    call_timeout: float = Field(default=120.0, gt=0)

    @model_validator(mode="after")
    def _either(self) -> Self:
        if (self.command is None) == (self.url is None):
            raise ValueError("must have either command or url")
        return self
