"""The examples of ``models.yaml``, asked from a server of the test's."""

from typing import Any

import yaml

from tests.harness.process import REPOSITORY

KEYS = {
    f"{name.upper()}_API_KEY": f"key-{name}" for name in ("openai", "gemini", "azure_openai", "anthropic", "openrouter")
} | {"AZURE_OPENAI_API_KEY": "key-azure", "AZURE_OPENAI_DEPLOYMENT": "deployed"}
"""Variables that the examples need."""


def examples() -> dict[str, Any]:
    """Every entry of the shipped file, also those that are commented out, by its name."""
    text = (REPOSITORY / "models.yaml").read_text()
    first = text.index("\n  # gpt-4o-mini:")
    found: dict[str, Any] = yaml.safe_load(text[:first] + text[first:].replace("\n  # ", "\n  "))["models"]
    return found


def asked_from(url: str) -> dict[str, Any]:
    """``models.yaml`` with every example, whose provider is at ``url``."""
    entries = examples()
    for entry in entries.values():
        config = entry["config"]
        match entry["provider"].rpartition(".")[2]:
            case "AzureOpenAIChatCompletionClient":
                config["azure_endpoint"] = url
            case "OllamaChatCompletionClient":
                config["host"] = url
            case "AnthropicChatCompletionClient":
                config["base_url"] = url
            case _:
                config["base_url"] = f"{url}/v1"
    return {"models": entries}
