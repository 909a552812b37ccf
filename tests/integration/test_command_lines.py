"""Every program says how it is used, starts nothing then, and refuses what it does not know."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness.process import ENDS, REPOSITORY, SETTINGS

MAIN = re.compile(r'^if __name__ == "__main__":', re.MULTILINE)


def programs() -> list[str]:
    """Modules that can be run, tests' own left out."""
    files = [path.relative_to(REPOSITORY) for folder in product() for path in folder.rglob("*.py")]
    return sorted(_module(file) for file in files if MAIN.search((REPOSITORY / file).read_text()))


def product() -> list[Path]:
    return [path.parent for path in REPOSITORY.glob("*/__init__.py") if path.parent.name != "tests"]


def _module(file: Path) -> str:
    return ".".join(file.with_suffix("").parts).removesuffix(".__main__")


COMMANDS = [
    *([name] for name in programs()),
    ["gateway", "keys"],
    ["gateway", "keys", "new"],
    ["worker", "check"],
    ["fleet", "doctor"],
]


def run(folder: Path, *command: str) -> "subprocess.CompletedProcess[str]":
    settings = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(REPOSITORY)}
    assert not any(name.startswith(SETTINGS) for name in settings)
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=folder,
        env=settings,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=ENDS,
        check=False,
    )


def test_the_programs_that_are_known_are_found() -> None:
    known = {"fleet", "launcher", "host", "gateway", "worker", "model", "fleet.security", "identities"}
    assert {*known, "bench", "fleet.process.probe", "installation"} <= set(programs())


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_prints_usage_and_starts_nothing(command: list[str], tmp_path: Path) -> None:
    done = run(tmp_path, *command, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: python ")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_what_it_does_not_know_is_refused_by_name(command: list[str], tmp_path: Path) -> None:
    done = run(tmp_path, *command, "--nonsense")
    assert done.returncode == 2
    assert "usage: python " in done.stderr
    assert "--nonsense" in done.stderr or "are required" in done.stderr
    assert "Traceback" not in done.stderr
    assert not done.stdout
    assert not list(tmp_path.iterdir())
