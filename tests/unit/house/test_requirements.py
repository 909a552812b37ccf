"""What the product imports is what ``pyproject.toml`` asks for."""

import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from importlib.metadata import packages_distributions

import pytest

from tests.harness.process import REPOSITORY
from tests.unit.house.imports import libraries

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
PACKAGES = ["doctor", "fleet", "gateway", "host", "identities", "launcher", "protos", "worker"]
OWN = {*PACKAGES, "model"}


@pytest.fixture(scope="module")
def owners() -> Mapping[str, list[str]]:
    """For each module that can be imported, the distributions that it comes from."""
    return packages_distributions()


def declared(requirements: list[str]) -> set[str]:
    return {normal(re.split(r"[\[=<>~! ;]", requirement, maxsplit=1)[0]) for requirement in requirements}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("package", [*PACKAGES, "model"])
def test_every_import_is_declared(package: str, owners: Mapping[str, list[str]]) -> None:
    asked = PROJECT["dependency-groups"]["model"] if package == "model" else PROJECT["project"]["dependencies"]
    missing = {
        name
        for name in libraries(REPOSITORY / package) - OWN
        if not any(normal(owner) in declared(asked) for owner in owners.get(name, [name]))
    }
    assert not missing


def test_the_model_starts_with_the_packages_of_its_image(owners: Mapping[str, list[str]]) -> None:
    """It imports parts of ``fleet``, whose own packages are not there."""
    script = (
        "import sys; there = set(sys.modules); import model.__main__; "
        "print(*{name.partition('.')[0] for name in set(sys.modules) - there})"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    pins = (REPOSITORY / "requirements-model.txt").read_text()
    pinned = {normal(name) for name in re.findall(r"^([\w.-]+)==", pins, re.MULTILINE)}
    foreign = {
        name
        for name in done.stdout.split()
        if name in owners and not any(normal(owner) in pinned for owner in owners[name])
    }
    assert not foreign
