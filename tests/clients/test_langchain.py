"""LangChain's ``ChatOpenAI``."""

import json
from pathlib import Path

import pytest

from tests.clients.flows import CALL
from tests.clients.script import Said, Script
from tests.harness.fleet import Fleet
from tests.schedule import reply_text

pytestmark = pytest.mark.slow

SCRIPT = Script()


@pytest.fixture(scope="module")
def said(python_tools: Path, shared_fleet: Fleet) -> Said:
    return SCRIPT.run(python_tools / "python", Path(__file__).with_name("langchain_client.py"), shared_fleet)


def test_it_streams(said: Said) -> None:
    assert said["stream"] == {"said": reply_text(SCRIPT.stream), "finish": "stop", "usage": [11, 7]}


def test_it_takes_whole_replies(said: Said) -> None:
    assert said["whole"] == {"said": reply_text(SCRIPT.whole), "usage": [11, 7]}


def test_a_tools_round_trip(said: Said, fleet: Fleet) -> None:
    arguments = json.loads(CALL["arguments"])
    assert said["tools"] == {"name": CALL["name"], "arguments": arguments, "said": SCRIPT.tools.text}
    SCRIPT.assert_tools_were_used(fleet)


def test_it_parses_structured_output(said: Said, fleet: Fleet) -> None:
    assert said["parsed"] == json.loads(SCRIPT.object.text or "")
    asked = fleet.backend.request(SCRIPT.object.tag or "")["body"]["response_format"]
    assert asked["json_schema"]["schema"]["required"] == ["city", "degrees"]


def test_errors_have_their_class(said: Said) -> None:
    assert "NotFoundError" in said["unknown_model"]["kinds"]
    assert said["unknown_model"]["code"] == "model_not_found"


def test_an_error_in_the_middle_is_raised(said: Said) -> None:
    assert "APIError" in said["broken_stream"]["kinds"]
    assert "the model broke" in said["broken_stream"]["message"]
    assert said["broken_stream"]["said"] == SCRIPT.before_it_broke
