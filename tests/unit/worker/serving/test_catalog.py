"""``models.yaml``."""

import re
from pathlib import Path
from typing import Any

import pytest
from autogen_ext.models.openai import OpenAIChatCompletionClient

from worker.serving.catalog import STREAMING, ModelsError, expand, load_models
from worker.wire.answers import Bounded

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


def test_names_are_as_they_are_written_and_merged_entries_too(tmp_path: Path) -> None:
    entry = "{provider: OpenAIChatCompletionClient, config: {model: gpt-4o, api_key: k, logit_bias: {50256: -100}}}"
    names = ["4.10", "on", "0x10", "1_000", "null", "2026-01-01"]
    lines = "".join(f"  {name}: {{<<: *a, description: d}}\n" for name in names)
    (tmp_path / "models.yaml").write_text(f"x-base: &a {entry}\nmodels:\n{lines}")
    assert list(load_models(tmp_path / "models.yaml", {})) == names


def test_the_shipped_file_loads_without_any_variable() -> None:
    models = load_models(Path(__file__).parents[4] / "models.yaml", {})
    assert list(models) == ["smollm2"]


def test_every_example_in_the_shipped_file_is_a_valid_entry(tmp_path: Path) -> None:
    head, _, examples = (Path(__file__).parents[4] / "models.yaml").read_text().partition("\n\n  # gpt-4o-mini")
    text = head + "\n\n" + ("  # gpt-4o-mini" + examples).replace("\n  # ", "\n  ").replace("  # gpt", "  gpt", 1)
    variables = ("OPENAI_API_KEY", "GEMINI_API_KEY", "ANTHROPIC_API_KEY", "AZURE_OPENAI_API_KEY", "OPENROUTER_API_KEY")
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
        "llama-server",
        "openrouter",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("models: [", "is not YAML (line 1)"),
        ("", "models: must map"),
        ("models: {}", "models: must map"),
        ("models: {a: 1}", "models.a: must be a mapping"),
        ("models: {'': {provider: x.Y}}", "models.: must have a name"),
        ("models: {a: {config: {}}}", "models.a.provider: Field required"),
        ("models: {a: {provider: x.Y, config: 1}}", "models.a.config: Input should be a valid dictionary"),
        ("models: {a: {provider: no.such.Client}}", "models.a.provider: no.such.Client cannot be loaded"),
        ("models: {a: {provider: json.Nothing}}", "models.a.provider: json.Nothing cannot be loaded"),
        ("models: {a: {provider: x.Y, confg: {}}}", "models.a.confg: is not known here; did you mean config?"),
        ("models: {a: {provider: json.JSONDecoder}}", "models.a.provider: json.JSONDecoder is no AutoGen chat"),
        ("models: {a: {provider: OpenAIChatClient}}", "autogen_ext.models.openai.OpenAIChatCompletionClient"),
        ("models:\n  a: {provider: x.Y}\n  a: {provider: x.Z}", "is not YAML (line 3): a is there twice"),
        ("models:\n  1: {provider: x.Y}\n  '1': {provider: x.Z}", "is not YAML (line 3): 1 is there twice"),
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
            "models.a.system_message: Input should be a valid string",
        ),
    ],
)
def test_what_is_wrong_is_named_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ModelsError) as refused:
        load(tmp_path, text)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelsError, match=r"none\.yaml: cannot be read: no such file"):
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
    clients: dict[str, Any] = {name: model.client for name, model in load_models(path, {}).items()}
    sdks = {name: clients[name]._client for name in ("gpt", "claude")}
    assert isinstance(sdks["gpt"]._client._transport, Bounded)
    assert isinstance(sdks["claude"]._client._transport, Bounded)
    assert (sdks["gpt"].max_retries, sdks["claude"].max_retries) == (0, 0)
    assert isinstance(clients["llama"]._http._transport, Bounded)
    for http in (*[sdk._client for sdk in sdks.values()], clients["llama"]._http):
        assert http.headers["accept-encoding"] == "identity"


def test_retries_of_the_configuration_count(tmp_path: Path) -> None:
    path = tmp_path / "models.yaml"
    path.write_text(OTHERS.replace("api_key: k", "api_key: k, max_retries: 3"))
    models = load_models(path, {})
    assert models["claude"].client._client.max_retries == 3  # type: ignore[attr-defined]


def with_config(config: str, provider: str = "OpenAIChatCompletionClient") -> str:
    return f"models: {{m: {{provider: {provider}, config: {{model: gpt-4o-mini, {config}}}}}}}"


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("temprature: 0.3", "models.m.config.temprature: is not known here; did you mean temperature?"),
        ("defaultheaders: {}", "did you mean default_headers?"),
        ("top_k: 5", "further fields of a provider's API go into extra_body"),
        ("extra_body: [top_k]", "models.m.config.extra_body: Input should be a valid dictionary"),
        ("bogus: 1", "models.m.config.bogus: is not known here; further fields of a provider's API go into extra_body"),
        ("model_info: {visoin: true}", "models.m.config.model_info.visoin: is not known here; did you mean vision?"),
        ("api_key: k, n: 2", "Disallowed create args"),
        ("stream: true", "models.m.config.stream: is not known here"),
    ],
)
def test_a_name_that_no_client_knows_is_an_error_with_the_nearest(tmp_path: Path, config: str, said: str) -> None:
    with pytest.raises(ModelsError, match=re.escape(said)):
        load(tmp_path, with_config(config))


def test_other_clients_names_are_checked_too(tmp_path: Path) -> None:
    for client in ("anthropic.AnthropicChatCompletionClient", "ollama.OllamaChatCompletionClient"):
        with pytest.raises(
            ModelsError, match=re.escape("models.m.config.tiemout: is not known here; did you mean timeout?")
        ):
            load(tmp_path, with_config("tiemout: 1", f"autogen_ext.models.{client}"))


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "models.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    "field", ['api_key: "${VALUE}"', 'default_headers: {x: "${VALUE}"}, api_key: k', 'base_url: "${VALUE}", api_key: k']
)
def test_what_mounted_files_end_in_is_no_part_of_a_header_or_url(tmp_path: Path, field: str) -> None:
    path = write(tmp_path, with_config(field))
    client: Any = load_models(path, {"VALUE": "http://h/v1\r\n", "OPENAI_API_KEY": "k"})["m"].client
    config = client._raw_config
    assert "http://h/v1" in (config["api_key"], config.get("base_url"), (config.get("default_headers") or {}).get("x"))
    for odd in ("a\nb", "a\x00", "a\x7f"):
        with pytest.raises(ModelsError, match=r"VALUE holds a character that no header or URL may have") as refused:
            load_models(path, {"VALUE": odd})
        assert odd not in str(refused.value)


def test_a_key_that_the_sdk_finds_by_itself_is_clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, with_config("temperature: 0"))
    monkeypatch.setenv("OPENAI_API_KEY", "sk\n")
    client: Any = load_models(path, {})["m"].client
    assert client._client.api_key == "sk"
    monkeypatch.setenv("OPENAI_API_KEY", "sk\nx")
    with pytest.raises(ModelsError, match=r"models\.m\.config\.api_key: the key of the environment holds"):
        load_models(path, {})


def test_everything_in_an_entry_reaches_its_client(tmp_path: Path) -> None:
    given = (
        "api_key: k, temperature: 0.3, max_completion_tokens: 7, service_tier: flex, reasoning_effort: xhigh, "
        "response_format: {type: json_object, schema: {}}, extra_body: {top_k: 5, a: {b: null}}, project: p, "
        "default_headers: {x-tenant: t}, default_query: {v: '1'}, timeout: 3, include_name_in_message: false"
    )
    client: Any = load_models(write(tmp_path, with_config(given)), {})["m"].client
    assert client._create_args == {
        "model": "gpt-4o-mini",
        "temperature": 0.3,
        "max_completion_tokens": 7,
        "service_tier": "flex",
        "reasoning_effort": "xhigh",
        "response_format": {"type": "json_object", "schema": {}},
        "extra_body": {"top_k": 5, "a": {"b": None}},
        "timeout": 3,
    }
    sdk = client._client
    assert (sdk.project, sdk.timeout, sdk._custom_query, sdk._custom_headers["x-tenant"]) == ("p", 3, {"v": "1"}, "t")
    assert client._include_name_in_message is False


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


UNKNOWN_MODEL = """models.a.config: model_info is required, as AutoGen does not know 'qwen'; write model_info: \
{vision: false, function_calling: false, json_output: false, structured_output: false, family: unknown}, with true for \
what it can do"""


@pytest.mark.parametrize(
    ("provider", "config"),
    [
        ("OpenAIChatCompletionClient", "{model: qwen, api_key: x}"),
        ("AzureOpenAIChatCompletionClient", "{model: qwen, api_key: x, azure_endpoint: 'https://x', api_version: v}"),
    ],
)
def test_a_model_that_autogen_does_not_know_is_told_what_to_write(tmp_path: Path, provider: str, config: str) -> None:
    with pytest.raises(ModelsError) as refused:
        load(tmp_path, f"models: {{a: {{provider: {provider}, config: {config}}}}}")
    assert str(refused.value).endswith(UNKNOWN_MODEL)
    written = str(refused.value).partition("write ")[2].partition(", with")[0]
    load(tmp_path, f"models: {{a: {{provider: {provider}, config: {config[:-1]}, {written}}}}}}}")


def test_another_error_is_not_taken_for_a_missing_model_info(tmp_path: Path) -> None:
    with pytest.raises(ModelsError, match=r"config: Missing credentials"):
        load(tmp_path, "models: {a: {provider: OpenAIChatCompletionClient, config: {model: gpt-4o}}}")


@pytest.mark.parametrize("provider", ["OpenAIChatCompletionClient", next(iter(STREAMING))])
def test_a_slip_in_a_client_within_a_client_is_named(tmp_path: Path, provider: str) -> None:
    inner = f"{{provider: {provider}, config: {{model: gpt-4o, api_key: x, temprature: 1}}}}"
    cache = "autogen_ext.models.cache.ChatCompletionCache"
    with pytest.raises(
        ModelsError, match=r"a\.config\.client\.config\.temprature: is not known here; did you mean temp"
    ):
        load(tmp_path, f"models: {{a: {{provider: {cache}, config: {{client: {inner}}}}}}}")


def test_a_name_beside_models_is_refused_unless_it_is_for_anchors(tmp_path: Path) -> None:
    entry = "{provider: OpenAIChatCompletionClient, config: {model: gpt-4o, api_key: x}}"
    load(tmp_path, f"x-common: &common {entry}\nmodels: {{a: *common, b: *common}}")
    with pytest.raises(ModelsError, match=r"models\.yaml: agents: is not known here; models is"):
        load(tmp_path, f"models: {{a: {entry}}}\nagents: {{}}")
