"""LlamaIndex's ``OpenAILike``."""

import json
from pathlib import Path

import pytest

from tests.clients.flows import CALL, RESULT
from tests.clients.script import OBJECT, REFUSAL, Said, Script, assert_refusals
from tests.harness.fleet import Fleet
from tests.schedule import reply_text

pytestmark = pytest.mark.slow

SCRIPT = Script()


@pytest.fixture(scope="module")
def said(older_python_tools: Path, shared_fleet: Fleet, keyed_url: str) -> Said:
    script = Path(__file__).with_name("llama_index_client.py")
    return SCRIPT.run(older_python_tools / "python", script, shared_fleet, keyed_url)


def test_it_streams(said: Said) -> None:
    assert said["stream"] == {"said": reply_text(SCRIPT.stream)}


def test_it_takes_whole_replies_with_all_that_was_counted(said: Said) -> None:
    assert said["whole"] == {"said": reply_text(SCRIPT.whole), "usage": [11, 7], "details": [5, 3]}


def test_a_tools_round_trip(said: Said, fleet: Fleet) -> None:
    assert said["tools"] == {"said": SCRIPT.tools.text, "arguments": json.loads(CALL["arguments"])}
    answered = fleet.backend.requests(SCRIPT.tools.tag)[-1]["body"]["messages"][-1]
    assert (answered["role"], answered["tool_call_id"], answered["content"]) == ("tool", CALL["id"], RESULT)


def test_it_parses_structured_output(said: Said) -> None:
    assert said["parsed"] == json.loads(OBJECT)


def test_a_refusal_is_one(said: Said) -> None:
    assert said["refused"] == REFUSAL


def test_errors_are_openais(said: Said) -> None:
    bad = dict.fromkeys(("too_long", "filtered"), "BadRequestError")
    kinds = {"limited": "RateLimitError", "unauthorized": "AuthenticationError", "unknown_model": "NotFoundError"}
    assert_refusals(said, bad | kinds)
