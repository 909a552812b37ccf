"""What an entry of ``models.yaml`` may hold for an OpenAI client: more than AutoGen's schema lets through."""

from typing import Any

from autogen_ext.models.openai._openai_client import create_kwargs
from autogen_ext.models.openai.config import (
    AzureOpenAIClientConfigurationConfigModel,
    BaseOpenAIClientConfigurationConfigModel,
    OpenAIClientConfigurationConfigModel,
)

CREATE = frozenset(create_kwargs - {"messages", "stream", "n", "functions", "function_call"})
"""Arguments of the SDK's ``create``, each a default for requests. Other fields go into ``extra_body``."""


class _Config(BaseOpenAIClientConfigurationConfigModel, extra="allow"):
    """Names beyond the schema's, which ``CREATE`` lists, are checked where the file is read."""

    # AutoGen's types of these know less than providers do.
    response_format: dict[str, Any] | None = None  # type: ignore[assignment]
    stream_options: dict[str, Any] | None = None  # type: ignore[assignment]
    reasoning_effort: str | None = None  # type: ignore[assignment]
    extra_body: dict[str, Any] | None = None
    project: str | None = None
    default_query: dict[str, str] | None = None


class OpenAIConfig(_Config, OpenAIClientConfigurationConfigModel):
    pass


class AzureConfig(_Config, AzureOpenAIClientConfigurationConfigModel):
    pass
