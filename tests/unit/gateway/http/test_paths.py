"""What a request's path means."""

from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from gateway.http.paths import LACKING, Paths, advice

KNOWN = ("/", "/v1", "/healthz", "/chat/completions", "/v1/chat/completions", "/v1/models")


async def as_served(method: str, path: str) -> Any:
    seen: list[Scope] = []

    async def app(scope: Scope, _: Receive, __: Send) -> None:
        seen.append(scope)

    scope: Scope = {"type": "http", "method": method, "path": path, "state": {}}
    await Paths(app, KNOWN)(scope, None, None)  # type: ignore[arg-type]
    assert (scope["method"], scope["path"]) == (method, path), "the server and the log need them as they were"
    return seen[0]


@pytest.mark.parametrize(
    ("asked", "served"),
    [
        *[(path, path) for path in KNOWN],
        ("/v1/chat/completions/", "/v1/chat/completions"),
        ("//v1/chat/completions", "/v1/chat/completions"),
        ("/v1//chat//completions//", "/v1/chat/completions"),
        ("/chat/completions/", "/chat/completions"),
        ("/v1/", "/v1"),
        ("//", "/"),
        ("/health", "/healthz"),
        ("/health/", "/healthz"),
        ("/models", "/v1/models"),
        ("/v1/models/", "/v1/models"),
        ("/v1/models/a//b/", "/v1/models/a//b/"),
        ("/v1/v1/chat/completions", "/v1/v1/chat/completions"),
        ("/V1/chat/completions", "/V1/chat/completions"),
        ("/openai/v1/chat/completions", "/v1/chat/completions"),
        ("/openai/v1/models", "/v1/models"),
        ("/openai/deployments/a/b/embeddings", "/v1/embeddings"),
    ],
)
async def test_other_spellings_of_a_path_are_that_path(asked: str, served: str) -> None:
    scope = await as_served("POST", asked)
    assert (scope["method"], scope["path"]) == ("POST", served)


@pytest.mark.parametrize("model", ["m", "a/b", "chat/completions"])
async def test_azures_path_names_the_model(model: str) -> None:
    scope = await as_served("POST", f"/openai/deployments/{model}/chat/completions")
    assert (scope["path"], scope["state"]["model"]) == ("/v1/chat/completions", model)


async def test_head_is_served_as_get() -> None:
    scope = await as_served("HEAD", "/models/")
    assert (scope["method"], scope["path"]) == ("GET", "/v1/models")


@pytest.mark.parametrize("name", LACKING)
def test_apis_that_are_not_here_are_named(name: str) -> None:
    for path in (f"/v1/{name}", f"/v1/{name}/x/y", f"/{name}", f"/openai/v1/{name}"):
        assert LACKING[name] in advice(path)
        assert "/v1/chat/completions" in advice(path)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/v1/chat/completions",
        "/v1/chat/completions/chat/completions",
        "/api/v1/chat/completions",
        "/v1/v1/models",
        "/api/chat",
        "/v1beta/models/gemini:generateContent",
    ],
)
def test_a_wrong_base_url_is_told(path: str) -> None:
    assert "base URL" in advice(path)


def test_nothing_is_made_up_about_other_paths() -> None:
    assert advice("/nothing") == advice("/v1/nothing") == "Not Found"
