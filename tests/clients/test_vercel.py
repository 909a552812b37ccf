"""Vercel's AI SDK, with its provider for OpenAI-compatible APIs."""

import json
from pathlib import Path

import pytest

from tests.clients.flows import CALL
from tests.clients.script import MESSAGES, Said, Script
from tests.harness.fleet import Fleet
from tests.schedule import reasoning_tokens, reply_text

pytestmark = pytest.mark.slow

SCRIPT = Script()


@pytest.fixture(scope="module")
def said(node_scripts: Path, shared_fleet: Fleet, keyed_url: str) -> Said:
    return SCRIPT.run("node", node_scripts / "vercel.mjs", shared_fleet, keyed_url)


def test_it_streams(said: Said) -> None:
    assert said["stream"] == {"said": reply_text(SCRIPT.stream), "finish": "stop", "usage": [11, 7]}


def test_it_takes_whole_replies(said: Said) -> None:
    assert said["whole"] == {"said": reply_text(SCRIPT.whole), "usage": [11, 7], "details": [5, 3]}


def test_reasoning_is_kept_apart(said: Said) -> None:
    thought = "".join(reasoning_tokens(SCRIPT.reasoning))
    assert said["reasoning"] == {"said": reply_text(SCRIPT.reasoning), "thought": thought}


def test_a_tools_round_trip(said: Said, fleet: Fleet) -> None:
    made = [{"id": CALL["id"], "input": json.loads(CALL["arguments"])}]
    assert said["tools"] == {"said": SCRIPT.tools.text, "steps": 2, "calls": made}
    SCRIPT.assert_tools_were_used(fleet)


def test_reasoning_and_signatures_go_back_to_the_model(said: Said, fleet: Fleet) -> None:
    """In both ways to ask: streamed, and whole."""
    thought = "".join(reasoning_tokens(SCRIPT.thinking))
    assert said["thinking"] == {"said": [SCRIPT.thinking.text] * 2, "thought": [thought] * 2}
    SCRIPT.assert_thoughts_went_back(fleet.backend.requests(SCRIPT.thinking.tag), times=2)


def test_it_parses_structured_output(said: Said) -> None:
    assert said["object"] == json.loads(SCRIPT.object.text or "")


REFUSED = [
    ("unknown_model", 404, False, "model_not_found", "'no-such' is not served here"),
    ("unauthorized", 401, False, "invalid_api_key", ""),
    *(
        (flow, status, retryable, code, MESSAGES[code])
        for flow, status, retryable, code in (
            ("too_long", 400, False, "context_length_exceeded"),
            ("filtered", 400, False, "content_filter"),
            ("limited", 429, True, "rate_limit_exceeded"),
        )
    ),
]


@pytest.mark.parametrize(("flow", "status", "retryable", "code", "message"), REFUSED)
def test_errors_have_their_status_code_and_message(
    said: Said, flow: str, status: int, retryable: bool, code: str, message: str
) -> None:
    refused = said[flow]
    assert (refused["class"], refused["statusCode"], refused["isRetryable"]) == ("APICallError", status, retryable)
    assert refused["data"]["error"]["code"] == code
    assert message in refused["message"]
    assert refused["responseHeaders"].get("retry-after") == ("60" if status == 429 else None)


def test_leaving_closes_the_models_connection(said: Said, fleet: Fleet) -> None:
    assert said["left"] == "left"
    SCRIPT.assert_left(fleet)


def test_an_error_in_the_middle_is_told(said: Said) -> None:
    assert said["broken_stream"]["said"] == SCRIPT.before_it_broke
    assert "the model broke" in said["broken_stream"]["error"]
