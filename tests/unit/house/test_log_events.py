"""The operators' table has every log event that asks for attention, and only events that exist."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.process import REPOSITORY
from tests.unit.house.imports import parsed

PROCESSES = ("fleet", "gateway", "host", "model", "worker")
OPERATIONS = (REPOSITORY / "docs" / "operations.md").read_text()
TABLE = OPERATIONS[OPERATIONS.index("## Logs") :]

LOUD = {"warning", "error", "report"}
"""Calls that log at warning or above."""

EXPLAINS_ITSELF = 70
"""Characters from which an event is a sentence that needs no entry, such as the host's warnings at its start."""


def sources() -> Iterator[Path]:
    for package in PROCESSES:
        yield from sorted((REPOSITORY / package).rglob("*.py"))


def loud_events() -> set[str]:
    found = set()
    for node in (node for file in sources() for node in ast.walk(parsed(file))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LOUD and node.args:
            event = node.args[0]
            if isinstance(event, ast.Constant) and isinstance(event.value, str):
                found.add(event.value)
    return found


@pytest.mark.parametrize("event", sorted(loud_events()))
def test_every_warning_and_error_is_explained_to_operators(event: str) -> None:
    assert f"`{event}`" in OPERATIONS or len(event) > EXPLAINS_ITSELF


def test_every_event_in_the_table_is_logged_somewhere() -> None:
    strings = {
        node.value
        for file in sources()
        for node in ast.walk(parsed(file))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    second = [line.split("|")[2] for line in TABLE.splitlines() if line.startswith("| ") and "`" in line.split("|")[2]]
    named = {event for cell in second for event in re.findall("`([^`]+)`", cell)}
    assert len(named) > 30
    assert named <= strings
