"""Files and classes stay small enough to be read at once."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.process import REPOSITORY
from tests.unit.house.imports import parsed

PRODUCT = (
    "doctor",
    "fleet",
    "gateway",
    "host",
    "identities",
    "installation",
    "launcher",
    "model",
    "monitoring",
    "protos",
    "worker",
)
MOST_LINES = 350
MOST_ATTRIBUTES = 12
REASON = "attributes because"
"""A class with more attributes gives its reason in its docstring, in a sentence with these words."""


def long_files(root: Path) -> list[str]:
    sizes = {file: len(file.read_text().splitlines()) for file in product(root)}
    return [f"{file.relative_to(root)}: {lines} lines" for file, lines in sizes.items() if lines > MOST_LINES]


def large_classes(root: Path) -> list[str]:
    return [
        f"{file.relative_to(root)}:{node.lineno}: {node.name} has {len(names)} attributes: {', '.join(sorted(names))}"
        for file in product(root)
        for node in ast.walk(parsed(file))
        if isinstance(node, ast.ClassDef)
        and len(names := set(attributes(node))) > MOST_ATTRIBUTES
        and REASON not in " ".join((ast.get_docstring(node) or "").split())
    ]


def product(root: Path) -> Iterator[Path]:
    """The product's files, without generated ones."""
    for package in PRODUCT:
        yield from (file for file in sorted((root / package).rglob("*.py")) if not file.stem.endswith("_pb2"))


def attributes(node: ast.AST) -> Iterator[str]:
    """The names that methods of a class assign to ``self``."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef):
            continue
        match child:
            case ast.Attribute(value=ast.Name(id="self"), attr=name, ctx=ast.Store()):
                yield name
        yield from attributes(child)


def test_no_file_is_long() -> None:
    found = long_files(REPOSITORY)
    assert not found, "\n" + "\n".join(found)


def test_no_class_has_many_attributes_without_a_reason() -> None:
    found = large_classes(REPOSITORY)
    assert not found, "\n" + "\n".join(found)


def test_a_long_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "host").mkdir()
    (tmp_path / "host" / "short.py").write_text("x = 1\n" * MOST_LINES)
    (tmp_path / "host" / "long.py").write_text("x = 1\n" * (MOST_LINES + 1))
    assert long_files(tmp_path) == [f"host/long.py: {MOST_LINES + 1} lines"]


@pytest.mark.parametrize(
    ("count", "docstring", "named"),
    [
        (MOST_ATTRIBUTES, "A class.", False),
        (MOST_ATTRIBUTES + 1, "A class.", True),
        (MOST_ATTRIBUTES + 1, "A class. It has thirteen attributes\n    because a state of HTTP is one.", False),
    ],
)
def test_a_class_with_many_attributes_is_named_unless_it_says_why(
    count: int, docstring: str, named: bool, tmp_path: Path
) -> None:
    first, *rest = [f"self.a{number}" for number in range(count)]
    lines = [f"{first}, {rest[0]} = 1, 2", f"{first} += 1", *(f"{name}: int = 1" for name in rest[1:])]
    body = "".join(f"        {line}\n" for line in lines)
    inner = "    class Inner:\n        def set(self):\n            self.other = 1\n"
    (tmp_path / "host").mkdir()
    (tmp_path / "host" / "a.py").write_text(f'class A:\n    """{docstring}"""\n    def set(self):\n{body}{inner}')
    assert bool(large_classes(tmp_path)) is named
