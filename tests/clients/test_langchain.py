"""LangChain's ``ChatOpenAI``."""

import json
from pathlib import Path

import pytest

from tests.clients.flows import CALL
from tests.clients.script import REFUSAL, Said, Script, assert_refusals
from tests.harness.fleet import Fleet
from tests.schedule import reply_text

pytestmark = pytest.mark.slow

SCRIPT = Script()


@pytest.fixture(scope="module")
def said(python_tools: Path, shared_fleet: Fleet, keyed_url: str) -> Said:
    script = Path(__file__).with_name("langchain_client.py")
    return SCRIPT.run(python_tools / "python", script, shared_fleet, keyed_url)


def test_it_streams(said: Said) -> None:
    assert said["stream"] == {"said": reply_text(SCRIPT.stream), "finish": "stop", "usage": [11, 7]}


def test_it_takes_whole_replies(said: Said) -> None:
    assert said["whole"] == {"said": reply_text(SCRIPT.whole), "usage": [11, 7], "details": [5, 3]}


def test_a_tools_round_trip(said: Said, fleet: Fleet) -> None:
    arguments = json.loads(CALL["arguments"])
    assert said["tools"] == {"name": CALL["name"], "arguments": arguments, "said": SCRIPT.tools.text}
    SCRIPT.assert_tools_were_used(fleet)


def test_it_parses_structured_output(said: Said, fleet: Fleet) -> None:
    assert said["parsed"] == json.loads(SCRIPT.object.text or "")
    asked = fleet.backend.request(SCRIPT.object.tag or "")["body"]["response_format"]
    assert asked["json_schema"]["schema"]["required"] == ["city", "degrees"]


def test_a_refusal_is_one(said: Said) -> None:
    assert "OpenAIRefusalError" in said["refused"]["kinds"]
    assert REFUSAL in said["refused"]["message"]


def test_errors_have_its_classes(said: Said) -> None:
    kinds = {
        "too_long": "OpenAIInvalidRequestError",
        "filtered": "OpenAIInvalidRequestError",
        "limited": "OpenAIRateLimitError",
        "unauthorized": "OpenAIAuthenticationError",
        "unknown_model": "OpenAIModelNotFoundError",
    }
    assert_refusals(said, kinds)


def test_an_error_in_the_middle_is_raised(said: Said) -> None:
    assert "APIError" in said["broken_stream"]["kinds"]
    assert "the model broke" in said["broken_stream"]["message"]
    assert said["broken_stream"]["said"] == SCRIPT.before_it_broke
