"""What the peers have in common. Each is installed in an environment of its own."""

import hashlib
import os
import shutil
import subprocess
import venv
from pathlib import Path
from typing import ClassVar

from bench.targets.target import Target, answers

REQUIREMENTS = Path(__file__).parents[1] / "peers"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "chatfleet-bench"


class PeerMissing(Exception):
    """A peer could not be installed here; the message says which and why."""


class Peer(Target):
    """``bench/peers/NAME.txt`` lists what is installed. When it changes, the environment is made again."""

    package: ClassVar[str]
    health: ClassVar[str] = "/health"
    """Answers 200 when it is ready."""

    @property
    def environment(self) -> Path:
        return CACHE / self.name

    def command(self, name: str) -> str:
        """The path of one of its programs."""
        return str(self.environment / "bin" / name)

    def requirements(self) -> list[str]:
        """Arguments for pip."""
        return ["-r", str(REQUIREMENTS / f"{self.name}.txt")]

    def python(self) -> str | None:
        """The interpreter of its environment, if not this one."""
        return None

    def prepare(self) -> None:
        """Install it, unless it is installed. Raises :class:`PeerMissing`."""
        wanted = hashlib.sha256(repr(self._content()).encode()).hexdigest()
        mark = self.environment / ".installed"
        if mark.exists() and mark.read_text() == wanted:
            return
        shutil.rmtree(self.environment, ignore_errors=True)
        if python := self.python():
            self._install([python, "-m", "venv", str(self.environment)])
        else:
            venv.create(self.environment, with_pip=True)
        pip = [self.command("python"), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        self._install([*pip, *self.requirements()])
        mark.write_text(wanted)

    def _content(self) -> list[str]:
        file = REQUIREMENTS / f"{self.name}.txt"
        return [*self.requirements(), file.read_text() if file.exists() else ""]

    def _install(self, command: list[str]) -> None:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode:
            lines = [line for line in done.stdout.splitlines() if "ERROR" in line] or done.stdout.splitlines()
            reason = lines[-1] if lines else f"exit code {done.returncode}"
            raise PeerMissing(f"cannot be installed here: {reason[:300]}")

    def version(self) -> str:
        show = [self.command("python"), "-c", f"import importlib.metadata as m; print(m.version({self.package!r}))"]
        return f"{self.package} {subprocess.run(show, capture_output=True, text=True, check=True).stdout.strip()}"

    def is_ready(self) -> bool:
        return answers(f"http://127.0.0.1:{self.port}{self.health}") is not None
