"""OpenAI's Agents SDK, with its model for chat completions."""

import json
from pathlib import Path

import pytest

from tests.clients.script import OBJECT, REFUSAL, Said, Script, assert_refusals
from tests.harness.fleet import Fleet
from tests.schedule import reply_text

pytestmark = pytest.mark.slow

SCRIPT = Script()


@pytest.fixture(scope="module")
def said(python_tools: Path, shared_fleet: Fleet, keyed_url: str) -> Said:
    script = Path(__file__).with_name("agents_client.py")
    return SCRIPT.run(python_tools / "python", script, shared_fleet, keyed_url)


def test_it_streams(said: Said) -> None:
    assert said["stream"] == {"said": reply_text(SCRIPT.stream), "usage": [11, 7]}


def test_it_takes_whole_replies_with_all_that_was_counted(said: Said) -> None:
    assert said["whole"] == {"said": reply_text(SCRIPT.whole), "usage": [11, 7], "details": [5, 3]}


def test_a_tools_round_trip(said: Said, fleet: Fleet) -> None:
    assert said["tools"] == {"said": SCRIPT.tools.text}
    SCRIPT.assert_tools_were_used(fleet)


def test_it_parses_structured_output(said: Said) -> None:
    assert said["parsed"] == json.loads(OBJECT)


def test_a_refusal_is_one(said: Said) -> None:
    assert "ModelRefusalError" in said["refused"]["kinds"]
    assert REFUSAL in said["refused"]["message"]


def test_errors_are_openais(said: Said) -> None:
    bad = dict.fromkeys(("too_long", "filtered"), "BadRequestError")
    kinds = {"limited": "RateLimitError", "unauthorized": "AuthenticationError", "unknown_model": "NotFoundError"}
    assert_refusals(said, bad | kinds)


def test_an_error_in_the_middle_is_raised(said: Said) -> None:
    assert said["broken_stream"]["said"] == SCRIPT.before_it_broke
    assert "APIError" in said["broken_stream"]["kinds"]
    assert "the model broke" in said["broken_stream"]["message"]


def test_cancelling_closes_the_models_connection(said: Said, fleet: Fleet) -> None:
    assert said["left"] == "left"
    SCRIPT.assert_left(fleet)
