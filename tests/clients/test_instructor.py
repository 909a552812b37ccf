"""instructor."""

import json
from pathlib import Path

import pytest

from tests.clients.script import OBJECT, REFUSAL, Said, Script, assert_refusals
from tests.harness.fleet import Fleet

pytestmark = pytest.mark.slow

SCRIPT = Script()


@pytest.fixture(scope="module")
def said(older_python_tools: Path, shared_fleet: Fleet, keyed_url: str) -> Said:
    script = Path(__file__).with_name("instructor_client.py")
    return SCRIPT.run(older_python_tools / "python", script, shared_fleet, keyed_url)


def test_it_parses_structured_output_in_each_of_its_ways(said: Said) -> None:
    assert said["parsed"] == dict.fromkeys(("TOOLS", "JSON", "JSON_SCHEMA"), json.loads(OBJECT))
    assert said["partial"] == json.loads(OBJECT)


def test_all_that_was_counted_arrives(said: Said) -> None:
    assert said["whole"]["details"] == [5, 3]


def test_a_refusal_is_one(said: Said) -> None:
    assert said["refused"] == REFUSAL


def test_errors_have_its_class_and_openais(said: Said) -> None:
    flows = ("too_long", "filtered", "limited", "unauthorized", "unknown_model")
    assert_refusals(said, dict.fromkeys(flows, "InstructorRetryException"))
    assert "RateLimitError" in said["limited"]["kinds"]
