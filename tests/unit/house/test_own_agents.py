"""Own agents in a clone: their packages are installed beside the pinned ones, once, and git leaves them alone."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.harness.process import REPOSITORY

DOCUMENT = (REPOSITORY / "docs" / "agents.md").read_text()

PYTHON = """#!/bin/sh
[ "$1" = -c ] && echo runs && exit
echo "$@" >> asked
"""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone that is set up, whose Python only notes what it is asked."""
    for name in ("Makefile", "requirements-dev.txt"):
        shutil.copy(REPOSITORY / name, tmp_path)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    python = tmp_path / ".venv" / "bin" / "python"
    python.write_text(PYTHON)
    python.chmod(0o755)
    (tmp_path / "agents").mkdir()
    (tmp_path / ".venv" / ".complete").touch()
    return tmp_path


def asked(clone: Path, target: str = "setup") -> list[str]:
    """What ``make`` asks of Python now."""
    (clone / "asked").unlink(missing_ok=True)
    subprocess.run(["make", target], cwd=clone, check=True, capture_output=True, timeout=30)
    return (clone / "asked").read_text().splitlines() if (clone / "asked").exists() else []


def test_packages_of_own_agents_are_installed_once_and_change_no_pinned_one(clone: Path) -> None:
    install = "-m uv pip install -q --python .venv/bin/python -r agents/requirements.txt -c requirements-dev.txt"
    assert asked(clone) == []
    (clone / "agents" / "requirements.txt").write_text("cowsay\n")
    assert asked(clone, "run") == [install, "-m fleet"]
    assert asked(clone, "run") == ["-m fleet"]
    later = (clone / ".venv" / ".agents").stat().st_mtime + 10
    os.utime(clone / "agents" / "requirements.txt", (later, later))
    assert asked(clone) == [install]


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
