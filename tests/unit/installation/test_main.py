"""When something is installed, and what is left alone."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from installation import __main__ as installation
from installation.pip import InstallError
from tests.harness.process import ENDS, REPOSITORY


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """A clone with requirements, whose pip only notes what it is asked to install."""
    asked: list[list[str]] = []
    monkeypatch.chdir(tmp_path)
    for name in (*installation.RUN, *installation.TEST):
        Path(name).write_text(f"{name.partition('.')[0]}==1 \\\n    --hash=sha256:00\n")
    monkeypatch.setattr(installation, "_install", lambda folder, arguments, what: asked.append(arguments))
    return asked


def test_running_needs_no_test_tools_and_tests_add_them(asked: list[list[str]]) -> None:
    folder = Path(".venv")
    installation.for_running(folder)
    (folder / "kept").touch()
    installation.for_tests(folder)
    assert asked == [
        [*installation.PINNED, "-r", "requirements.txt", "-r", "requirements-model.txt"],
        [*installation.PINNED, "-r", "requirements-dev.txt"],
    ]
    assert (folder / "kept").exists()


def test_nothing_is_installed_twice_even_if_git_gave_the_requirements_a_new_date(asked: list[list[str]]) -> None:
    folder = Path(".venv")
    installation.for_running(folder)
    later = (folder / ".runtime").stat().st_mtime - 10
    os.utime(folder / ".runtime", (later, later))
    installation.for_running(folder)
    assert len(asked) == 1
    assert (folder / ".runtime").stat().st_mtime > later, "make would ask again"


def test_changed_requirements_and_a_lost_interpreter_start_from_nothing(asked: list[list[str]]) -> None:
    folder = Path(".venv")
    installation.for_running(folder)
    (folder / "left").touch()
    Path("requirements.txt").write_text("other==2\n")
    installation.for_running(folder)
    assert not (folder / "left").exists()
    (folder / "bin" / "python").unlink()
    installation.for_running(folder)
    assert len(asked) == 3


def test_own_agents_cannot_change_a_pinned_package(asked: list[list[str]]) -> None:
    folder = Path(".venv")
    Path("agents").mkdir()
    Path("agents/requirements.txt").write_text("cowsay\n")
    installation.for_running(folder)
    installation.for_own_agents(folder)
    assert asked[-1] == ["-r", "agents/requirements.txt", "-c", ".venv/constraints.txt"]
    assert (folder / "constraints.txt").read_text() == "requirements-dev==1\n"


def test_a_linked_environment_is_left_alone(asked: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    Path("elsewhere").mkdir()
    Path(".venv").symlink_to("elsewhere")
    monkeypatch.setattr(sys, "argv", ["installation", ".venv", "run"])
    assert installation.main() == 0
    assert asked == []


def test_a_failure_ends_in_a_sentence_that_says_what_to_do(
    asked: list[list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise InstallError("check the network and run make again")

    monkeypatch.setattr(installation, "_install", fail)
    monkeypatch.setattr(sys, "argv", ["installation", ".venv", "run"])
    assert installation.main() == 1
    assert capsys.readouterr().err.endswith("run make again\n")
    assert not Path(".venv/.runtime").exists()


def test_it_runs_with_a_python_that_has_no_packages() -> None:
    command = [sys.executable, "-ISc", "import sys; sys.path.insert(0, '.'); import installation.__main__"]
    subprocess.run(command, cwd=REPOSITORY, check=True, timeout=ENDS)
