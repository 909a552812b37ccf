"""What a browser sees, and what a program gets instead."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.access.access import Access
from gateway.access.keys import KeyRing, digest
from gateway.http import app
from gateway.routing.health import Health
from tests.unit.gateway.chats.test_chats import Stage

BROWSER = {"accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
SCHEMES = {"bearer", "api-key", "x-api-key"}


def client(access: Access | None = None, unready: str = "", failing: int = 0) -> httpx.AsyncClient:
    stage = Stage()
    health = {"m": Health(workers=1, failing=failing)}
    fleet: dict[str, Any] = {"workers": [{"id": "a"}], "load": {"ratio": None}}
    views = app.Views(lambda: unready, lambda: fleet, lambda: {"m": ""}, lambda: health)
    built = app.build(stage.settings, stage.chats, access or Access(None), views)
    return httpx.AsyncClient(transport=httpx.ASGITransport(built), base_url="http://a")


@pytest.fixture
def keyed(tmp_path: Path) -> Access:
    file = tmp_path / "keys.yaml"
    file.write_text(f"keys: [{{name: alice, sha256: {digest('secret')}}}]")
    return Access(KeyRing(file))


async def test_a_browser_gets_a_page_and_a_program_json() -> None:
    page = await client().get("/", headers=BROWSER)
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "<strong>ready</strong>" in page.text
    for accept in ("*/*", "application/json"):
        answer = await client().get("/", headers={"accept": accept})
        assert answer.json()["documentation"] == "/docs"
        assert answer.headers["vary"] == page.headers["vary"] == "accept"


async def test_the_page_says_why_the_gateway_is_not_ready() -> None:
    page = await client(unready="no <worker> is ready").get("/", headers=BROWSER)
    assert "<strong>not ready: no &lt;worker&gt; is ready</strong>" in page.text
    page = await client(failing=1).get("/", headers=BROWSER)
    assert "<strong>not ready: no model can be served</strong>" in page.text


async def test_the_page_has_the_header_that_a_key_goes_into(keyed: Access) -> None:
    assert "Authorization: Bearer" in (await client(keyed).get("/", headers=BROWSER)).text
    assert "Authorization: Bearer" not in (await client().get("/", headers=BROWSER)).text


async def test_the_document_has_keys_only_where_they_are_needed(keyed: Access) -> None:
    document = (await client().get("/openapi.json")).json()
    assert "security" not in document
    assert "securitySchemes" not in document.get("components", {})
    for _ in range(2):
        document = (await client(keyed).get("/openapi.json")).json()
        assert document["components"]["securitySchemes"].keys() == SCHEMES
        assert document["security"] == [{name: []} for name in ("bearer", "api-key", "x-api-key")]
    operations = [
        (method, path, operation) for path, all_ in document["paths"].items() for method, operation in all_.items()
    ]
    free = {(method, path) for method, path, operation in operations if operation.get("security") == []}
    assert free == {("get", "/healthz"), ("get", "/readyz")}


async def test_the_document_is_there_before_anyone_asks(keyed: Access, monkeypatch: pytest.MonkeyPatch) -> None:
    clients = [client(), client(keyed)]
    monkeypatch.setattr("fastapi.applications.get_openapi", lambda **_: pytest.fail("built while requests are served"))
    for asking in clients:
        assert (await asking.get("/openapi.json")).status_code == 200


async def test_every_route_has_a_summary_of_its_own() -> None:
    paths = (await client().get("/openapi.json")).json()["paths"]
    summaries = [operation["summary"] for methods in paths.values() for operation in methods.values()]
    assert len(set(summaries)) == len(summaries)
    assert all(" " in summary for summary in summaries), "no mere name of a function"


async def test_the_fleet_can_be_read_without_a_tool() -> None:
    answer = await client().get("/fleet")
    assert answer.headers["content-type"] == "application/json"
    assert answer.text.splitlines()[:3] == ["{", '  "workers": [', "    {"]
