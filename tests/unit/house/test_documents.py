"""The documents are whole: tables are tables, links lead somewhere, and what can go wrong is explained."""

import ast
import re
from pathlib import Path

import pytest

import gateway.errors
import worker.contract.failures
from tests.harness.process import REPOSITORY
from tests.unit.house.imports import parsed

DOCUMENTS = [REPOSITORY / "README.md", REPOSITORY / "CHANGELOG.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
RUNBOOK = (REPOSITORY / "docs" / "runbook.md").read_text()


def _raised() -> set[str]:
    """The codes of all errors that are made somewhere in the gateway."""
    kinds = {name for name, kind in vars(gateway.errors).items() if isinstance(kind, type)}
    kinds -= {"InvalidField", "Unsupported"}  # which have their own
    found = set()
    for node in (node for file in (REPOSITORY / "gateway").rglob("*.py") for node in ast.walk(parsed(file))):
        match node:
            case ast.Call(func=ast.Name(id=name), args=[ast.Constant(value=str(code)), *_]) if name in kinds:
                found.add(code)
            case ast.keyword(arg="code", value=ast.Constant(value=str(code))):
                found.add(code)
    return found


def _drawn(module: object) -> set[str]:
    """The codes in the table or tree at the top of a module."""
    return set(
        re.findall(
            r"\b[a-z]+(?:_[a-z0-9]+)+\b|(?<=^    )[a-z]+(?= +(?:yes|no|varies))", module.__doc__ or "", re.MULTILINE
        )
    )


NO_CODES = {"insufficient_quota", "context_length_exceeded"}
"""Providers' codes, which the text beside the table names."""
DRAWN = _drawn(gateway.errors) | _drawn(worker.contract.failures)
ERROR_CODES = (_raised() | DRAWN | gateway.errors.ModelFailed.STATUS.keys()) - NO_CODES


def blocks(text: str) -> list[list[str]]:
    """Lines with bars that stand together, outside of code."""
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    return [block.splitlines() for block in re.findall(r"(?:^\|.*\n?)+", prose, re.MULTILINE)]


def cells(line: str) -> int:
    return len(re.findall(r"(?<!\\)\|", line)) - 1


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_table_has_a_head_and_equal_rows(document: Path) -> None:
    for head, *rows in blocks(document.read_text()):
        assert rows, head
        assert re.fullmatch(r"\|(:?-+:?\|)+", rows[0].replace(" ", "")), f"no table begins with {head}"
        assert all(line.rstrip().endswith("|") for line in (head, *rows)), head
        assert {cells(line) for line in (head, *rows)} == {cells(head)}, head


def test_a_row_apart_from_its_table_is_found() -> None:
    assert [len(block) for block in blocks("| a |\n|---|\n| b |\n\n| c |\n")] == [3, 1]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", document.read_text()):
        if re.match("[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = document.parent / name if name else document
        assert file.exists(), target
        if anchor:
            assert anchor in anchors(file), target


def anchors(document: Path) -> set[str]:
    """Of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_runbook_has_every_code_of_an_error() -> None:
    section = RUNBOOK[RUNBOOK.index("## A client complains") : RUNBOOK.index("## The first token is slow")]
    explained = set(re.findall(r"`([a-z0-9_]+)`", section))
    assert len(ERROR_CODES) > 40
    assert explained >= ERROR_CODES
