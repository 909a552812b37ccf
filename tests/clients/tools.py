"""Clients that the project's own environment must not hold, installed when a test needs them, into pytest's cache.

Where that cannot be done the test is skipped with a line that says why; in CI it fails, because there all of them run.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

import pytest

from tests.harness.process import ENDS

HERE = Path(__file__).parent
REQUIREMENTS, OLDER_REQUIREMENTS = HERE / "requirements.txt", HERE / "requirements-openai2.txt"
NODE = HERE / "node"
IN_CI = os.environ.get("CI", "").lower() in ("1", "true")
INSTALLATION = 300.0
"""Seconds that a registry may take."""
TRIES, APART = (3, 20.0) if IN_CI else (1, 0.0)
"""How often it is asked, and seconds in between: a registry that is away for a moment is no fault of CI's change."""


def python_clients(config: pytest.Config) -> Path:
    """The folder of the commands (``python``, ``llm``, …) of an environment with ``requirements.txt``."""
    return environment(config, "python-clients", REQUIREMENTS)


def older_python_clients(config: pytest.Config) -> Path:
    """The same for the clients that ask for OpenAI's SDK before version 3."""
    return environment(config, "older-python-clients", OLDER_REQUIREMENTS)


def environment(config: pytest.Config, name: str, requirements: Path) -> Path:
    """The folder of the commands of an environment of that name with what ``requirements`` pins."""
    folder = _folder(config, name, requirements.read_bytes() + sys.version.encode())
    if not (folder / "complete").exists():
        packages = sum(line[:1].isalnum() for line in requirements.read_text().splitlines())
        _say(config, f"Installing {packages} packages for tests into {folder}, once.")
        uv = [sys.executable, "-m", "uv"]
        environment = folder / "venv"
        _install([*uv, "venv", "--quiet", "--clear", "--no-project", "--python", sys.executable, str(environment)])
        pinned = ["--no-deps", "--require-hashes", "--only-binary", ":all:", "--requirement", str(requirements)]
        _install([*uv, "pip", "install", "--quiet", "--python", str(environment / "bin" / "python"), *pinned])
        (folder / "complete").touch()
    return folder / "venv" / "bin"


def node_clients(config: pytest.Config) -> Path:
    """A folder with the scripts of ``node/`` and the packages that they import."""
    if not (shutil.which("node") and shutil.which("npm")):
        unavailable("Node.js or npm is not there: install both (Debian: apt-get install nodejs npm) to run these tests")
    folder = _folder(config, "node-clients", (NODE / "package.json").read_bytes())
    for source in NODE.iterdir():
        shutil.copy(source, folder)
    if not (folder / "complete").exists():
        _say(config, f"Installing Node.js packages for tests into {folder}, once.")
        _install(
            ["npm", "install", "--no-package-lock", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"], folder
        )
        (folder / "complete").touch()
    return folder


def output(
    command: Sequence[str | Path], given: str = "", settings: Mapping[str, str] | None = None, within: float = ENDS
) -> str:
    """What a client prints to standard output; it must end well, and in time."""
    done = subprocess.run(
        [str(part) for part in command],
        input=given,
        env=clean_environment() | dict(settings or {}),
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=within,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def clean_environment() -> dict[str, str]:
    """The environment without what would send a client elsewhere."""
    kept = {name: value for name, value in os.environ.items() if not name.upper().endswith("_PROXY")}
    return {name: value for name, value in kept.items() if not name.startswith(("OPENAI_", "LANGCHAIN_", "LANGSMITH_"))}


def unavailable(reason: str) -> NoReturn:
    """Skip the test, or fail it in CI."""
    if IN_CI:
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def _folder(config: pytest.Config, name: str, contents: bytes) -> Path:
    return config.cache.mkdir(f"{name}-{hashlib.sha256(contents).hexdigest()[:16]}")


def _say(config: pytest.Config, text: str) -> None:
    """On the terminal, where tests otherwise write nothing: this takes longer than a test may without a word."""
    capture, reporter = (config.pluginmanager.get_plugin(name) for name in ("capturemanager", "terminalreporter"))
    if capture is not None and reporter is not None:
        with capture.global_and_fixture_disabled():
            reporter.ensure_newline()
            reporter.write_line(text)


def _install(command: list[str], folder: Path | None = None) -> None:
    for number in range(TRIES):
        time.sleep(APART if number else 0)
        trouble = _trouble(command, folder)
        if not trouble:
            return
        print(trouble)
    reason = " ".join(trouble.splitlines()[-1:])[:200]
    unavailable(
        f"what this test needs cannot be installed ({command[0]}: {reason}): "
        "connect to the package registries and run again"
    )


def _trouble(command: list[str], folder: Path | None) -> str:
    """Why an installation failed; empty if it did not."""
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=INSTALLATION, check=False)
    except subprocess.TimeoutExpired:
        return f"no answer within {INSTALLATION:g} s"
    return (done.stderr.strip() or f"exit code {done.returncode}") if done.returncode else ""
