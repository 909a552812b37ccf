"""What is shown of contents, whatever they are."""

import json

import pytest
from autogen_core.tools import TextResultContent, ToolResult

from worker.serving import content


def nested(depth: int) -> object:
    return [nested(depth - 1)] if depth else []


@pytest.mark.parametrize("given", [{"n": 10**30}, {"text": "\ud83d"}, nested(300), {(1, 2): object()}])
def test_what_is_no_json_is_shown_as_far_as_it_can_be(given: object) -> None:
    """A tool's arguments come from Python's own reader, which takes more than JSON has."""
    assert json.loads(content.arguments(given)) is not None


def test_half_a_character_breaks_no_span() -> None:
    half = "\ud83d"
    result = ToolResult(name="t", result=[TextResultContent(content=half)])
    for shown in (content.answer(half, "stop"), content.result(result)):
        shown.encode()
