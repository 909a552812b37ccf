"""OpenAI's own SDK for Node.js."""

from pathlib import Path

import pytest

from tests.clients.flows import CALL
from tests.clients.script import REFUSAL, USAGE, Said, Script
from tests.harness.fleet import Fleet
from tests.schedule import reply_text

pytestmark = pytest.mark.slow

SCRIPT = Script()
COUNTED = USAGE | {"total_tokens": 18}


@pytest.fixture(scope="module")
def said(node_scripts: Path, shared_fleet: Fleet) -> Said:
    return SCRIPT.run("node", node_scripts / "openai.mjs", shared_fleet)


def test_it_streams(said: Said) -> None:
    assert said["stream"] == {"said": reply_text(SCRIPT.stream), "finish": "stop", "usage": COUNTED}


def test_it_takes_whole_replies(said: Said) -> None:
    assert (said["whole"]["said"], said["whole"]["usage"]) == (reply_text(SCRIPT.whole), COUNTED)
    assert said["whole"]["id"]


def test_a_tools_round_trip(said: Said, fleet: Fleet) -> None:
    assert said["tools"] == {"call": CALL, "said": SCRIPT.tools.text}
    SCRIPT.assert_tools_were_used(fleet)


def test_a_refusal_is_one(said: Said) -> None:
    assert said["refused"] == [{"refusal": REFUSAL, "parsed": None, "content": None}] * 2


def test_it_lists_the_models(said: Said) -> None:
    assert said["models"] == ["test", "other", "nowhere"]


def test_errors_have_their_fields(said: Said) -> None:
    unknown = said["unknown_model"]
    assert unknown.pop("requestID")
    assert unknown == {
        "class": "NotFoundError",
        "status": 404,
        "code": "model_not_found",
        "param": "model",
        "type": "invalid_request_error",
    }
    assert said["wrong_field"] == {"class": "UnprocessableEntityError", "status": 422, "param": "top_p"}


def test_an_error_in_the_middle_is_thrown(said: Said) -> None:
    assert said["broken_stream"]["said"] == SCRIPT.before_it_broke
    assert "the model broke" in said["broken_stream"]["message"]
    assert said["broken_stream"]["code"] == "model_failed"


def test_leaving_closes_the_models_connection(said: Said, fleet: Fleet) -> None:
    assert said["leaving"] == "left"
    SCRIPT.assert_left(fleet)
