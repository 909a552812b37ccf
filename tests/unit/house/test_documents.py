"""Tables in the documents are tables: a renderer shows anything else as a paragraph of bars."""

import re
from pathlib import Path

import pytest

from tests.harness.process import REPOSITORY

DOCUMENTS = [REPOSITORY / "README.md", REPOSITORY / "CHANGELOG.md", *sorted((REPOSITORY / "docs").glob("*.md"))]


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
