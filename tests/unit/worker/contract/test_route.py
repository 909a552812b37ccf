"""How a worker reaches a model."""

from typing import Any

import pytest

from worker.contract.route import route
from worker.ollama.client import OllamaClient
from worker.openai.client import StreamingOpenAIClient

INFO: dict[str, Any] = {"family": "unknown", "vision": False, "function_calling": False, "json_output": False}


def of(**config: Any) -> Any:
    entry = {"model": "m", "api_key": "key-12345", "base_url": "http://u:p@models:8000/v1", **config}
    client = StreamingOpenAIClient(**entry, model_info={**INFO, "structured_output": False})
    return route("p", entry, client)


async def test_a_host_is_told_without_credentials() -> None:
    assert of().host == "models:8000"
    assert of(base_url=None).host == "api.openai.com"


async def test_an_address_and_a_key_make_a_route() -> None:
    assert of().fingerprint == of().fingerprint
    assert len({of().fingerprint, of(api_key="key-other").fingerprint, of(base_url="http://b/v1").fingerprint}) == 3
    assert of().fingerprint < 2**32


async def test_an_address_an_account_and_a_model_are_a_server() -> None:
    assert of().server == of(temperature=0.5).server != 0
    others = [
        of(model="n"),
        of(api_key="key-other"),
        of(base_url="http://b:8000/v1"),
        of(base_url="http://models:8000"),
    ]
    assert len({made.server for made in [of(), *others]}) == 5


async def test_a_server_on_loopback_is_another_one_on_each_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    here = [of(base_url=url).server for url in ("http://127.0.0.1/v1", "http://[::1]/v1", "http://models/v1")]
    monkeypatch.setattr("socket.gethostname", lambda: "another")
    there = [of(base_url=url).server for url in ("http://127.0.0.1/v1", "http://[::1]/v1", "http://models/v1")]
    assert [one == other for one, other in zip(here, there, strict=True)] == [False, False, True]


async def test_an_entrys_own_keys_are_masked() -> None:
    made = of(default_headers={"Authorization": "Token other-secret"})
    assert made.mask("key-12345 and other-secret") == "*** and ***"
    assert of(api_key="none").mask("none of them") == "none of them"


async def test_ollamas_host_is_told_and_its_key_from_the_environment_is_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_API_KEY", "ollama-secret")
    made = route("p", {"model": "m"}, OllamaClient(model="m", host="models"))
    assert made.host == "models:11434"
    assert made.mask("it is ollama-secret") == "it is ***"
