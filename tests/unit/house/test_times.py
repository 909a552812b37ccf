"""A test that asserts how long something takes fails on another machine."""

import re

from tests.harness.process import REPOSITORY

MEASURES = re.compile(r"\b(?:process|thread)_time(?:_ns)?\(|\bdeadline=(?!None)\d")
"""The CPU's time, and a time for each of Hypothesis's examples."""


def test_only_growth_measures_the_cpus_time() -> None:
    tests = REPOSITORY / "tests"
    files = (file for file in tests.rglob("*.py") if "node_modules" not in file.parts)
    assert [file.name for file in files if MEASURES.search(file.read_text())] == ["growth.py"]
