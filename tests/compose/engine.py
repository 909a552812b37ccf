"""The Docker Engine: whether there is one, and its command line."""

import contextlib
import functools
import json
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Inspected = dict[str, Any]

BUILD = 900.0
"""Seconds that a command may take: a first build downloads some 150 MB."""


def docker(*arguments: str, folder: Path | None = None, settings: Mapping[str, str] | None = None) -> str:
    """What a command writes to standard output; it must end well."""
    done = run(*arguments, folder=folder, settings=settings)
    assert done.returncode == 0, f"docker {' '.join(arguments)}: {done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def run(
    *arguments: str, folder: Path | None = None, settings: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """A command of Docker's and how it ended."""
    return command(["docker", *arguments], folder, settings)


def command(
    words: Sequence[str], folder: Path | None = None, settings: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """A command and how it ended; it sees no variable of Compose's or ours but those in ``settings``."""
    return subprocess.run(
        words,
        cwd=folder,
        env=_environment(settings),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=BUILD,
        check=False,
    )


def interrupted(words: Sequence[str], when: str, folder: Path, settings: Mapping[str, str]) -> int:
    """The exit code of a command that gets SIGTERM, with its children, once it has written ``when``."""
    with subprocess.Popen(
        words,
        cwd=folder,
        env=_environment(settings),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        assert any(when in line for line in process.stdout), f"it never wrote {when!r}"
        os.killpg(process.pid, signal.SIGTERM)
        process.stdout.read()
        return process.wait(BUILD)


def _environment(settings: Mapping[str, str] | None) -> dict[str, str]:
    ours = ("COMPOSE_", "CHATFLEET_", "EMBEDDED")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)} | dict(settings or {})


@functools.cache
def missing() -> str:
    """What keeps these tests from running here; empty when nothing does."""
    try:
        version = run("version", "--format", "{{.Server.Version}}")
        compose = run("compose", "version", "--short")
    except OSError:
        return "there is no docker command here"
    if version.returncode:
        return "no Docker Engine answers"
    return "" if compose.returncode == 0 else "Docker has no compose plugin"


def inspect(container: str) -> Inspected:
    """What the engine knows of a container."""
    (found,) = json.loads(docker("inspect", container))
    return dict(found)


def crash(container: str, image: str) -> None:
    """SIGKILL for the container's first process, by its pid: after `docker kill` the engine would not restart it."""
    pid = inspect(container)["State"]["Pid"]
    assert pid > 1
    with contextlib.suppress(PermissionError):
        os.kill(pid, 9)
        return
    kill = f"import os; os.kill({pid}, 9)"  # whoever may start containers need not be root
    docker("run", "--rm", "--pid", "host", "--user", "root", "--entrypoint", "python", image, "-c", kill)
