"""The gateway's pages in Chromium."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.script import Said
from tests.clients.tools import output, unavailable
from tests.harness.fleet import Fleet
from tests.integration.keyed import KeyedGateway
from tests.schedule import Schedule, reply_text

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SEED, OPENAI = "/chat/completions", "/v1/chat/completions"
SCHEDULE = Schedule(tokens=80, delay=0.2)
"""It takes 16 s: a browser that has three pages open may show the first part of it late."""
PATIENCE = 180.0
"""Seconds for the whole script: a browser takes many of a busy machine's."""


@pytest.fixture(scope="module")
def keyed(shared_fleet: Fleet) -> Iterator[KeyedGateway]:
    with KeyedGateway(shared_fleet, {"someone": {}}) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def said(node_scripts: Path, shared_fleet: Fleet, keyed: KeyedGateway) -> Said:
    if CHROMIUM is None:
        unavailable("Chromium is not there: `apt-get install chromium` enables these tests")
    task = {
        "chromium": CHROMIUM,
        "url": shared_fleet.url,
        "keyed_url": keyed.url,
        "key": keyed.keys["someone"],
        "question": SCHEDULE.message(),
        "end": {SEED: '"done":true', OPENAI: "[DONE]"},
    }
    pages: Said = json.loads(output(["node", node_scripts / "browser.mjs"], json.dumps(task), within=PATIENCE))
    assert pages["troubles"] == []
    return pages


def test_the_first_page_says_that_it_is_ready_and_leads_to_the_others(said: Said, fleet: Fleet) -> None:
    page = said["first"]
    assert {"/docs", "/fleet", "/v1/models", "/readyz", "/healthz"} <= {*page["links"]}
    assert "ready" in page["text"]
    assert f"curl -N {fleet.url}/chat/completions" in page["text"]
    assert "Authorization" not in page["text"]
    assert "Authorization: Bearer KEY" in said["keyed_first"]["text"]


def test_the_routes_say_what_they_do(said: Said) -> None:
    names = said["summaries"]["names"]
    assert {"Chat (NDJSON)", "Chat (OpenAI)", "List models and agents", "Workers, load and queue"} <= {*names}
    assert not {"Seed", "Openai", "Healthz"} & {*names}


@pytest.mark.parametrize("path", [SEED, OPENAI], ids=["ndjson", "events"])
def test_a_stream_is_readable_and_shown_while_it_runs(said: Said, path: str) -> None:
    tried = said["tried"]["ndjson" if path == SEED else "events"]
    assert tried["status"].startswith("200")
    assert_readable(path, tried["shown"])


def test_a_key_can_be_entered_where_keys_are_needed(said: Said) -> None:
    assert said["summaries"]["authorize"] == 0
    tried = said["tried"]["with_key"]
    assert tried["status"].startswith("200")
    assert_readable(SEED, tried["shown"])


def assert_readable(path: str, shown: list[str]) -> None:
    assert len(shown) > 1, "a part was shown before the end"
    lines = [line.removeprefix("data: ") for line in shown[-1].split("\n") if line.strip() not in ("", "data: [DONE]")]
    events = [json.loads(line) for line in lines]
    texts = [event["content"] if path == SEED else event["choices"][0]["delta"].get("content") for event in events]
    assert "".join(filter(None, texts)) == reply_text(SCHEDULE)
