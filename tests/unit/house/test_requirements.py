"""What the product imports is what ``pyproject.toml`` asks for."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions

import pytest

from tests.harness.process import REPOSITORY

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
PACKAGES = ["fleet", "gateway", "host", "identities", "launcher", "protos", "worker"]
OWN = {*PACKAGES, "model"}


def imported(package: str) -> set[str]:
    """The top-level names that its modules import, its own and Python's left out."""
    names: set[str] = set()
    for file in (REPOSITORY / package).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                names.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names.add(node.module or "")
    return {name.partition(".")[0] for name in names} - OWN - sys.stdlib_module_names


def declared(requirements: list[str]) -> set[str]:
    return {normal(re.split(r"[\[=<>~! ;]", requirement, maxsplit=1)[0]) for requirement in requirements}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("package", [*PACKAGES, "model"])
def test_every_import_is_declared(package: str) -> None:
    asked = PROJECT["dependency-groups"]["model"] if package == "model" else PROJECT["project"]["dependencies"]
    owners = packages_distributions()
    missing = {
        name
        for name in imported(package)
        if not any(normal(owner) in declared(asked) for owner in owners.get(name, [name]))
    }
    assert not missing
