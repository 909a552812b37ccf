"""Vercel's AI SDK, with its provider for OpenAI-compatible APIs."""

import json
from pathlib import Path

import pytest

from tests.clients.flows import CALL
from tests.clients.script import Said, Script
from tests.harness.fleet import Fleet
from tests.schedule import reasoning_tokens, reply_text

pytestmark = pytest.mark.slow

SCRIPT = Script()


@pytest.fixture(scope="module")
def said(node_scripts: Path, shared_fleet: Fleet) -> Said:
    return SCRIPT.run("node", node_scripts / "vercel.mjs", shared_fleet)


def test_it_streams(said: Said) -> None:
    assert said["stream"] == {"said": reply_text(SCRIPT.stream), "finish": "stop", "usage": [11, 7]}


def test_it_takes_whole_replies(said: Said) -> None:
    assert said["whole"] == {"said": reply_text(SCRIPT.whole), "usage": [11, 7]}


def test_reasoning_is_kept_apart(said: Said) -> None:
    thought = "".join(reasoning_tokens(SCRIPT.reasoning))
    assert said["reasoning"] == {"said": reply_text(SCRIPT.reasoning), "thought": thought}


def test_a_tools_round_trip(said: Said, fleet: Fleet) -> None:
    made = [{"id": CALL["id"], "input": json.loads(CALL["arguments"])}]
    assert said["tools"] == {"said": SCRIPT.tools.text, "steps": 2, "calls": made}
    SCRIPT.assert_tools_were_used(fleet)


def test_it_parses_structured_output(said: Said) -> None:
    assert said["object"] == json.loads(SCRIPT.object.text or "")


def test_errors_have_their_status_and_message(said: Said) -> None:
    refused = said["unknown_model"]
    assert (refused["statusCode"], refused["isRetryable"]) == (404, False)
    assert "'no-such' is not served here" in refused["message"]


def test_an_error_in_the_middle_is_told(said: Said) -> None:
    assert said["broken_stream"]["said"] == SCRIPT.before_it_broke
    assert "the model broke" in said["broken_stream"]["error"]
