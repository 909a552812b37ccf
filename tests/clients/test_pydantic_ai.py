"""pydantic-ai, with its model for chat completions."""

import json
from pathlib import Path

import pytest

from tests.clients.script import OBJECT, REFUSAL, Said, Script, assert_refusals
from tests.harness.fleet import Fleet
from tests.schedule import reasoning_tokens, reply_text

pytestmark = pytest.mark.slow

SCRIPT = Script()


@pytest.fixture(scope="module")
def said(python_tools: Path, shared_fleet: Fleet, keyed_url: str) -> Said:
    script = Path(__file__).with_name("pydantic_ai_client.py")
    return SCRIPT.run(python_tools / "python", script, shared_fleet, keyed_url)


def test_it_streams(said: Said) -> None:
    assert said["stream"] == {"said": reply_text(SCRIPT.stream), "usage": [11, 7]}


def test_it_takes_whole_replies_with_all_that_was_counted(said: Said) -> None:
    assert said["whole"] == {"said": reply_text(SCRIPT.whole), "usage": [11, 7], "details": [5, 3]}


def test_a_tools_round_trip(said: Said, fleet: Fleet) -> None:
    assert said["tools"] == {"said": SCRIPT.tools.text}
    SCRIPT.assert_tools_were_used(fleet)


def test_reasoning_and_signatures_go_back_to_the_model(said: Said, fleet: Fleet) -> None:
    """It sends back what it was given, also of a call's fields that it does not know."""
    assert said["thinking"] == {"said": SCRIPT.thinking.text, "thought": "".join(reasoning_tokens(SCRIPT.thinking))}
    SCRIPT.assert_thoughts_went_back(fleet.backend.requests(SCRIPT.thinking.tag))


def test_it_parses_structured_output(said: Said) -> None:
    assert said["parsed"] == json.loads(OBJECT)


def test_a_refusal_is_one(said: Said) -> None:
    assert "ContentFilterError" in said["refused"]["kinds"]
    assert REFUSAL in said["refused"]["message"]


def test_errors_have_its_classes(said: Said) -> None:
    kinds = {
        "too_long": "ModelContextWindowExceededError",
        "filtered": "ModelRequestRejectedError",
        "limited": "ModelRateLimitError",
        "unauthorized": "ModelAuthenticationError",
        "unknown_model": "ModelNotFoundError",
    }
    assert_refusals(said, kinds)


def test_an_error_in_the_middle_is_raised(said: Said) -> None:
    assert said["broken_stream"]["said"] == SCRIPT.before_it_broke
    assert "ModelServerError" in said["broken_stream"]["kinds"]
    assert "the model broke" in said["broken_stream"]["message"]


def test_cancelling_closes_the_models_connection(said: Said, fleet: Fleet) -> None:
    assert said["left"] == "left"
    SCRIPT.assert_left(fleet)
