"""``models.yaml``."""

from pathlib import Path
from typing import Any

import pytest
from autogen_ext.models.openai import OpenAIChatCompletionClient

from worker.serving.catalog import ModelsError, expand, load_models
from worker.wire.answers import Bounded
from worker.wire.httpx_transport import HttpxTransport

ENTRY = """
models:
  one:
    provider: autogen_ext.models.openai.OpenAIChatCompletionClient
    config: {model: gpt-4o-mini, api_key: "${KEY}", base_url: "${URL:-http://127.0.0.1:1/v1}"}
    system_message: You are $$1.
  two:
    provider: OpenAIChatCompletionClient
    config: {model: gpt-4o-mini, api_key: x}
"""


def load(tmp_path: Path, text: str, **environment: str) -> object:
    path = tmp_path / "models.yaml"
    path.write_text(text)
    return load_models(path, environment)


def test_entries_come_in_the_files_order_with_the_environment_put_in(tmp_path: Path) -> None:
    path = tmp_path / "models.yaml"
    path.write_text(ENTRY)
    models = load_models(path, {"KEY": "secret"})
    assert list(models) == ["one", "two"]
    assert models["one"].system_message == "You are $1."
    client = models["one"].client
    assert isinstance(client, OpenAIChatCompletionClient)
    assert client._client.api_key == "secret"
    assert str(client._client.base_url) == "http://127.0.0.1:1/v1/"
    assert client._client.max_retries == 0


def test_the_shipped_file_loads_without_any_variable() -> None:
    models = load_models(Path(__file__).parents[4] / "models.yaml", {})
    assert list(models) == ["smollm2"]


def test_every_example_in_the_shipped_file_is_a_valid_entry(tmp_path: Path) -> None:
    head, _, examples = (Path(__file__).parents[4] / "models.yaml").read_text().partition("\n\n  # gpt-4o-mini")
    text = head + "\n\n" + ("  # gpt-4o-mini" + examples).replace("\n  # ", "\n  ").replace("  # gpt", "  gpt", 1)
    variables = ("OPENAI_API_KEY", "GEMINI_API_KEY", "ANTHROPIC_API_KEY", "AZURE_OPENAI_API_KEY")
    azure = {"AZURE_OPENAI_DEPLOYMENT": "d", "AZURE_OPENAI_ENDPOINT": "https://x.example"}
    path = tmp_path / "models.yaml"
    path.write_text(text)
    models = load_models(path, {**dict.fromkeys(variables, "x"), **azure})
    assert list(models) == [
        "smollm2",
        "gpt-4o-mini",
        "gemini-2.0-flash",
        "azure-gpt-4o",
        "claude-sonnet",
        "llama3.2",
        "vllm",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("models: [", "is not YAML (line 1)"),
        ("", "models: must map"),
        ("models: {}", "models: must map"),
        ("models: {a: 1}", "models.a: must have provider and config"),
        ("models: {a: {config: {}}}", "models.a.provider: must name"),
        ("models: {a: {provider: x.Y, config: 1}}", "models.a.config: must be a mapping"),
        ("models: {a: {provider: no.such.Client}}", "models.a.provider: no.such.Client cannot be loaded"),
        ("models: {a: {provider: json.Nothing}}", "models.a.provider: json.Nothing cannot be loaded"),
        ("models: {a: {provider: x.Y, keys: 1}}", "models.a.keys: "),
        ("models: {a: {provider: OpenAIChatCompletionClient, config: {}}}", "models.a.config.model: Field required"),
        (
            "models: {a: {provider: OpenAIChatCompletionClient, config: {model: m, api_key: '$" + "{NO_KEY}'}}}",
            "models.a.config.api_key: the environment has no NO_KEY",
        ),
        (
            "models: {a: {provider: OpenAIChatCompletionClient, config: {model: unheard-of, api_key: x}}}",
            "models.a.config: model_info is required",
        ),
        (
            "models: {a: {provider: OpenAIChatCompletionClient, system_message: 5}}",
            "models.a.system_message: must be text",
        ),
    ],
)
def test_what_is_wrong_is_named_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ModelsError) as refused:
        load(tmp_path, text)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelsError, match=r"none\.yaml: cannot be read: No such file"):
        load_models(tmp_path / "none.yaml", {})


def test_variables_are_found_at_any_depth() -> None:
    assert expand({"a": ["$" + "{X}-$" + "{Y:-z}", 3, "$$" + "{X}"]}, "f", {"X": "x"}) == {"a": ["x-z", 3, "$" + "{X}"]}


def test_an_empty_variable_counts_as_none() -> None:
    assert expand("$" + "{X:-d}", "f", {"X": ""}) == "d"


OTHERS = """
models:
  claude:
    provider: autogen_ext.models.anthropic.AnthropicChatCompletionClient
    config: {model: claude-sonnet-4-20250514, api_key: k}
  llama:
    provider: autogen_ext.models.ollama.OllamaChatCompletionClient
    config: {model: llama3.2}
  gpt:
    provider: autogen_ext.models.openai.OpenAIChatCompletionClient
    config: {model: gpt-4o-mini, api_key: k}
"""


def test_what_every_providers_client_takes_is_bounded_and_none_asks_twice_by_itself(tmp_path: Path) -> None:
    path = tmp_path / "models.yaml"
    path.write_text(OTHERS)
    sdks: dict[str, Any] = {name: model.client._client for name, model in load_models(path, {}).items()}  # type: ignore[attr-defined]
    assert isinstance(sdks["gpt"]._client._transport, Bounded)
    assert isinstance(sdks["claude"]._client._transport, Bounded)
    assert isinstance(sdks["llama"]._client._transport, HttpxTransport)
    assert (sdks["gpt"].max_retries, sdks["claude"].max_retries) == (0, 0)
    for sdk in sdks.values():
        assert sdk._client.headers["accept-encoding"] == "identity"


def test_retries_of_the_configuration_count(tmp_path: Path) -> None:
    path = tmp_path / "models.yaml"
    path.write_text(OTHERS.replace("api_key: k", "api_key: k, max_retries: 3"))
    models = load_models(path, {})
    assert models["claude"].client._client.max_retries == 3  # type: ignore[attr-defined]


# ---------------------------------------------------------------- endpoints

TWO = """
models:
  one:
    provider: OpenAIChatCompletionClient
    config: {model: gpt-4o-mini, api_key: x}
  two:
    provider: OpenAIChatCompletionClient
    config: {model: an-embedding-model, api_key: x}
    endpoints: ENDPOINTS
"""


def test_an_entry_has_only_chat_unless_it_says_more(tmp_path: Path) -> None:
    path = tmp_path / "models.yaml"
    path.write_text(TWO.replace("ENDPOINTS", "[embeddings, embeddings, completions]"))
    models = load_models(path, {})
    assert models["one"].endpoints == ("chat",)
    assert models["two"].endpoints == ("embeddings", "completions")


@pytest.mark.parametrize(
    ("endpoints", "reason"),
    [
        ("[chats]", "'chats' is not known here; chat, completions, embeddings are"),
        ("[[chat]]", "['chat'] is not known here"),
        ("[]", "must be a list of chat, completions, embeddings"),
        ("chat", "must be a list of"),
        ("", "must be a list of"),
    ],
)
def test_a_wrong_list_of_endpoints_is_named(tmp_path: Path, endpoints: str, reason: str) -> None:
    with pytest.raises(ModelsError) as wrong:
        load(tmp_path, TWO.replace("ENDPOINTS", endpoints))
    assert str(wrong.value).startswith(f"{tmp_path}/models.yaml: models.two.endpoints: {reason}")


def test_only_openais_clients_have_other_endpoints(tmp_path: Path) -> None:
    text = TWO.replace("ENDPOINTS", "[chat, embeddings]").replace(
        "  two:\n    provider: OpenAIChatCompletionClient", "  two:\n    provider: OllamaChatCompletionClient"
    )
    with pytest.raises(
        ModelsError, match=r"models\.two\.endpoints: embeddings is only for OpenAI-compatible and Azure"
    ):
        load(tmp_path, text)


def test_the_default_model_has_chats(tmp_path: Path) -> None:
    with pytest.raises(ModelsError, match=r"models\.one\.endpoints: must have chat: the first entry is the default"):
        load(tmp_path, ENTRY.replace("  two:", "    endpoints: [embeddings]\n  two:"), KEY="x")
