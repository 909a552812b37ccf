"""Own agents in a clone: their packages are installed beside the pinned ones, once, and git leaves them alone."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.harness.process import ENDS, REPOSITORY

REQUIREMENTS = ("requirements.txt", "requirements-model.txt", "requirements-dev.txt")
DOCUMENT = (REPOSITORY / "docs" / "agents.md").read_text()

PYTHON = """#!/bin/sh
case "$2" in *runs*) echo runs ;; *version_info*) echo 3.12 ;; esac
[ "$1" = -c ] && exit
echo "$@" >> asked
case "$@" in *installation*) touch .venv/.agents ;; esac
"""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone that is set up, whose Pythons only note what they are asked."""
    for name in ("Makefile", *REQUIREMENTS):
        shutil.copy(REPOSITORY / name, tmp_path)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    for python in (tmp_path / ".venv" / "bin" / "python", tmp_path / "python"):
        python.write_text(PYTHON)
        python.chmod(0o755)
    (tmp_path / "agents").mkdir()
    for stamp in (".runtime", ".complete"):
        (tmp_path / ".venv" / stamp).touch()
    return tmp_path


def asked(clone: Path, target: str = "setup") -> list[str]:
    """What ``make`` asks of Python now."""
    (clone / "asked").unlink(missing_ok=True)
    command = ["make", target, f"PYTHON={clone}/python"]
    subprocess.run(command, cwd=clone, check=True, capture_output=True, timeout=ENDS)
    return (clone / "asked").read_text().splitlines() if (clone / "asked").exists() else []


def test_packages_of_own_agents_are_installed_once(clone: Path) -> None:
    install = "-m installation .venv own"
    assert asked(clone) == []
    (clone / "agents" / "requirements.txt").write_text("cowsay\n")
    assert asked(clone, "run") == [install, "-m fleet"]
    assert asked(clone, "run") == ["-m fleet"]
    later = (clone / ".venv" / ".agents").stat().st_mtime + 10
    os.utime(clone / "agents" / "requirements.txt", (later, later))
    assert asked(clone) == [install]


def test_running_asks_for_nothing_that_only_tests_need(clone: Path) -> None:
    for stamp in (".runtime", ".complete"):
        (clone / ".venv" / stamp).unlink()
    assert asked(clone, "run") == ["-m installation .venv run", "-m fleet"]


def test_git_ignores_them_and_the_image_may_hold_them() -> None:
    for path, is_ignored in (("agents/mine.py", True), ("agents.yaml", True), ("examples/agents/duo.py", False)):
        done = subprocess.run(["git", "check-ignore", "-q", "--no-index", path], cwd=REPOSITORY, check=False)
        assert (done.returncode == 0) is is_ignored, path
    allowed = (REPOSITORY / ".dockerignore").read_text().split()
    assert {"!agents", "!agents.yaml"} <= set(allowed)


def test_the_documents_image_puts_them_where_the_worker_looks() -> None:
    image = (REPOSITORY / "Dockerfile").read_text()
    assert "WORKDIR /app" in image
    assert "ENV PATH=/opt/chatfleet/bin" in image
    assert "freeze > /opt/chatfleet/constraints.txt" in image
    plain, packages = re.findall(r"```dockerfile\n(.*?)```", DOCUMENT, re.DOTALL)
    assert plain == "FROM chatfleet\nCOPY . .\n"
    assert "pip --python /opt/chatfleet install" in packages
    assert "-c /opt/chatfleet/constraints.txt -r agents/requirements.txt" in packages


def test_what_a_target_is_given_reaches_its_program(clone: Path) -> None:
    (bench,) = asked(clone, "bench")
    assert bench.startswith("-m bench --runs 3 ")
    (clone / "asked").unlink()
    command = ["make", "bench", "RUNS=5", "PEERS=smg", f"PYTHON={clone}/python"]
    subprocess.run(command, cwd=clone, check=True, capture_output=True, timeout=ENDS)
    assert "-m bench --runs 5 --peers smg" in (clone / "asked").read_text()
