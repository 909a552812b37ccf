"""The operators' table has every log event, and only events that exist."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.process import REPOSITORY
from tests.unit.house.imports import parsed

PROCESSES = ("fleet", "gateway", "host", "identities", "launcher", "model", "worker")
OPERATIONS = (REPOSITORY / "docs" / "operations.md").read_text()
TABLE = OPERATIONS[OPERATIONS.index("### Every event") : OPERATIONS.index("## Faults")]
LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def sources() -> Iterator[Path]:
    for package in PROCESSES:
        yield from sorted((REPOSITORY / package).rglob("*.py"))


def texts(node: ast.expr) -> set[str]:
    """What a text can be: a literal, or one of two."""
    match node:
        case ast.Constant(value=str(text)):
            return {text}
        case ast.IfExp(body=first, orelse=second):
            return texts(first) | texts(second)
    return set()


def is_log_method(node: ast.expr) -> bool:
    match node:
        case ast.Attribute(value=ast.Name(id="log"), attr=attr):
            return attr in LEVELS
        case ast.IfExp(body=first, orelse=second):
            return is_log_method(first) and is_log_method(second)
    return False


def assigned(function: Function, name: str) -> list[ast.expr]:
    """What is assigned to a name anywhere in a function."""
    return [
        node.value
        for node in ast.walk(function)
        if isinstance(node, ast.Assign) and any(isinstance(to, ast.Name) and to.id == name for to in node.targets)
    ]


def passed(function: Function, name: str) -> set[str]:
    """What callers pass for a parameter, wherever they are."""
    names = [parameter.arg for parameter in function.args.args]
    if name not in names:
        return set()
    at = names.index(name) - (names[0] == "self")
    found = set()
    for call in (node for file in sources() for node in ast.walk(parsed(file)) if isinstance(node, ast.Call)):
        called = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        if called == function.name and len(call.args) > at:
            found |= texts(call.args[at])
    return found


def events() -> Iterator[tuple[str, set[str]]]:
    """Where something is logged, and what."""
    for file in sources():
        for function in (node for node in ast.walk(parsed(file)) if isinstance(node, Function)):
            for call in (node for node in ast.walk(function) if isinstance(node, ast.Call) and node.args):
                method = call.func
                if isinstance(method, ast.Name):
                    is_logging = any(is_log_method(value) for value in assigned(function, method.id))
                else:
                    is_logging = is_log_method(method)
                if not is_logging:
                    continue
                event, found = call.args[0], texts(call.args[0])
                if isinstance(event, ast.Name):
                    found = set().union(*map(texts, assigned(function, event.id))) or passed(function, event.id)
                yield f"{file.relative_to(REPOSITORY)}:{call.lineno}", found


def table() -> set[str]:
    second = [line.split("|")[2] for line in TABLE.splitlines() if line.startswith("| ") and "`" in line.split("|")[2]]
    return {event for cell in second for event in re.findall("`([^`]+)`", cell)}


def test_every_place_that_logs_is_understood() -> None:
    found = list(events())
    assert len(found) > 60
    assert [place for place, logged in found if not logged] == []


@pytest.mark.parametrize("event", sorted(set().union(*(found for _, found in events()))))
def test_every_event_is_explained_to_operators(event: str) -> None:
    assert event in table()


def test_every_event_in_the_table_is_logged_somewhere() -> None:
    assert table() <= set().union(*(found for _, found in events()))
