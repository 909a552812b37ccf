"""OpenAI's API on the wire: what clients' tests do not see, its document and its pages."""

import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from tests.harness.fleet import Fleet
from tests.schedule import Schedule, reply_text

PATH = "/v1/chat/completions"


@pytest.fixture
def client(fleet: Fleet) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=fleet.url, timeout=30, trust_env=False) as client:
        yield client


def body(schedule: Schedule, **fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": schedule.message()}]} | fields


def test_a_request_that_does_not_say_so_is_not_streamed(client: httpx.Client) -> None:
    schedule = Schedule()
    completion = client.post(PATH, json=body(schedule)).json()
    assert completion["object"] == "chat.completion"
    assert completion["choices"][0]["message"]["content"] == reply_text(schedule)


def test_without_a_model_the_first_one_answers_and_is_named(client: httpx.Client) -> None:
    assert client.post(PATH, json=body(Schedule())).json()["model"] == "test"
    assert client.post(PATH, json=body(Schedule(), model="other")).json()["model"] == "other"


def test_the_id_is_made_of_the_request_id(client: httpx.Client) -> None:
    answer = client.post(PATH, json=body(Schedule()))
    assert answer.json()["id"] == f"chatcmpl-{answer.headers['x-request-id']}"


@pytest.mark.parametrize("given", ["order-7", "a.b:c_d-e", "x" * 128])
def test_a_good_request_id_comes_back(client: httpx.Client, given: str) -> None:
    for path in ("/v1/models", "/healthz", "/nothing"):
        assert client.get(path, headers={"x-request-id": given}).headers["x-request-id"] == given


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, "é", "a,b", "<a>"])
def test_any_other_request_id_is_replaced(client: httpx.Client, given: str) -> None:
    answer = client.get("/v1/models", headers=[(b"x-request-id", given.encode())])
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"])


def test_an_error_has_openais_shape_on_every_path_of_the_api(client: httpx.Client) -> None:
    answers = [
        client.post(PATH, content=b"{"),
        client.get("/v1/nothing"),
        client.get("/v1/models/nothing"),
        client.post(PATH, json=body(Schedule(status=400))),
    ]
    assert [answer.status_code for answer in answers] == [400, 404, 404, 400]
    kinds = ["invalid_request_error"] * 3 + ["test"]  # the last is the provider's own
    for answer, kind in zip(answers, kinds, strict=True):
        error = answer.json()["error"]
        assert error.keys() >= {"message", "type", "param", "code", "retryable", "request_id"}
        assert error["type"] == kind
        assert error["request_id"] == answer.headers["x-request-id"]


def test_a_wrong_method_has_openais_shape(client: httpx.Client) -> None:
    for method, path, allowed in (
        ("GET", PATH, "POST, OPTIONS"),
        ("POST", "/v1/models", "GET, HEAD, OPTIONS"),
        ("DELETE", "/v1/models/a", "GET, HEAD, OPTIONS"),
    ):
        answer = client.request(method, path)
        assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
        error = answer.json()["error"]
        assert (error["type"], error["code"], error["param"]) == ("invalid_request_error", "not_allowed", None)


@pytest.mark.parametrize(
    "name",
    ["a\nb", "\n", "a\n", "a/b", " ", "\x00", "\x1b[2J", "\u2028", "日本", "{x}", "%", "%0a", "?", "x" * 9000],
)
def test_whatever_a_model_is_called_it_is_just_not_found(client: httpx.Client, name: str) -> None:
    answer = client.get(f"/v1/models/{quote(name, safe='/')}")
    assert answer.status_code == 404
    error = answer.json()["error"]
    assert (error["type"], error["code"], error["param"]) == ("invalid_request_error", "model_not_found", "model")
    assert repr(name[:100]) in error["message"]
    assert "\n" not in error["message"]


def test_a_tab_between_json_and_its_end_is_no_matter(client: httpx.Client) -> None:
    schedule = Schedule()
    content = b"\r\n\t " + json.dumps(body(schedule)).encode() + b"\t\r\n"
    reply = client.post(PATH, content=content).json()
    assert reply["choices"][0]["message"]["content"] == reply_text(schedule)


# ---------------------------------------------------------------- the document and its page


def test_the_document_names_both_apis_with_their_streams_and_errors(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    assert document["paths"].keys() == {
        "/chat/completions",
        PATH,
        "/v1/completions",
        "/v1/embeddings",
        "/v1/models",
        "/v1/models/{model_id}",
        "/healthz",
        "/readyz",
        "/fleet",
        "/metrics",
    }
    for path, kind in (("/chat/completions", "application/x-ndjson"), (PATH, "text/event-stream")):
        operation = document["paths"][path]["post"]
        assert operation["responses"]["200"]["content"].keys() == {kind, "application/json"}
        assert operation["responses"].keys() >= {"400", "401", "403", "404", "413", "422", "429", "502", "503", "504"}
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        assert schema["required"] == ["messages"]
    assert "$ref" not in json.dumps(document["paths"][PATH])


def test_the_lines_of_a_seed_stream_have_the_documented_fields(client: httpx.Client) -> None:
    """Schemathesis looks into events, but not into lines."""
    answers = client.get("/openapi.json").json()["paths"]["/chat/completions"]["post"]["responses"]
    schema = answers["200"]["content"]["application/x-ndjson"]["itemSchema"]
    message = [{"source": "user", "content": Schedule(reasoning=1).message()}]
    answer = client.post("/chat/completions", json={"messages": message})
    lines = [json.loads(line) for line in answer.content.splitlines()]
    assert len(lines) > 1
    for line in lines:
        assert {*schema["required"]} <= line.keys() <= {*schema["properties"]}


def test_the_document_says_of_n_what_works(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    schema = document["paths"][PATH]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert [kind.get("const", kind["type"]) for kind in schema["properties"]["n"]["anyOf"]] == [1, "null"]
    assert [client.post(PATH, json=body(Schedule(), n=n)).status_code for n in (1, None, 0, 2)] == [200, 200, 400, 400]


def test_the_page_works_without_the_internet(client: httpx.Client) -> None:
    page = client.get("/docs")
    assert page.status_code == 200
    sources = re.findall(r"<(?:script|link|img)[^>]*?\s(?:src|href)=[\"']([^\"']+)", page.text)
    assert len(sources) >= 2
    for source in sources:
        assert source.startswith("/")
        assert not source.startswith("//")
        assert client.get(source).status_code == 200
    assert not re.search(r"(?:url|href|src)\s*[:=]\s*[\"']https?://", page.text)
    assert "/openapi.json" in page.text


def test_the_pages_of_files_hold_nothing_else(client: httpx.Client) -> None:
    for path in (
        "/docs-static/",
        "/docs-static/..%2f..%2fapp.py",
        "/docs-static/%2e%2e/%2e%2e/app.py",
        "/docs-static/x",
    ):
        assert client.get(path).status_code == 404
