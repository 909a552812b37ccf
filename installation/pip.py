"""A pip outside of the environment that it fills, and its output as progress."""

import itertools
import re
import subprocess
import sys
import tempfile
import venv
from collections import deque
from pathlib import Path
from typing import Self

LARGE = 5_000_000
"""Bytes of a download that is worth a line of its own."""

EVERY = 10
"""Packages between two lines where lines cannot be overwritten."""

_PACKAGE = re.compile(r"(?:Collecting|Requirement already satisfied:) (?P<name>[\w.-]+)")
_DOWNLOAD = re.compile(r"\s*Downloading (?P<file>\S+) \((?P<size>[\d.]+) (?P<unit>kB|MB|GB)\)")
_UNITS = {"kB": 1e3, "MB": 1e6, "GB": 1e9}


class InstallError(Exception):
    """What could not be set up, and what to do: for the user."""


class Pip:
    """Lives as long as its ``with``."""

    def __init__(self, python: Path) -> None:
        """``python`` is the interpreter of the environment to fill."""
        self._python = python
        self._home = tempfile.TemporaryDirectory(prefix="chatfleet-pip-")

    def __enter__(self) -> Self:
        try:
            venv.EnvBuilder(with_pip=True, symlinks=True).create(self._home.name)
        except (OSError, subprocess.CalledProcessError) as error:
            raise InstallError(f"no pip can be made with {sys.executable}: {error}; install python3-venv") from None
        return self

    def __exit__(self, *_: object) -> None:
        self._home.cleanup()

    def install(self, arguments: list[str], what: str) -> None:
        """Install what the arguments name, and print how far it is. Raises :class:`InstallError`."""
        # Without byte code: Python writes that of what it imports, which is a fifth of all.
        command = [f"{self._home.name}/bin/python", "-m", "pip", "--python", str(self._python), "install"]
        options = ["--no-compile", "--progress-bar", "off", "--disable-pip-version-check"]
        last: deque[str] = deque(maxlen=15)
        progress = Progress(_count(arguments))
        with subprocess.Popen(  # noqa: S603
            [*command, *options, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as pip:
            assert pip.stdout is not None
            for line in pip.stdout:
                last.append(line)
                progress.show(line)
        progress.end()
        if pip.returncode:
            print("".join(last), end="", file=sys.stderr)
            raise InstallError(
                f"Could not install {what}: see pip's words above. If it could not download, check the network and "
                "your proxy or mirror (HTTPS_PROXY, PIP_INDEX_URL), and run make again."
            )


class Progress:
    """On a terminal one line that changes, elsewhere a line now and then."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._count = 0
        self._overwrites = sys.stdout.isatty()

    def show(self, line: str) -> None:
        """Read a line of pip's."""
        if found := _PACKAGE.match(line):
            self._count += 1
            self._say(f"{self._count} of {self._total}: {found['name']}", self._count % EVERY == 1)
        elif found := _DOWNLOAD.match(line):
            size = float(found["size"]) * _UNITS[found["unit"]]
            name = found["file"].rpartition("/")[2].partition("-")[0]
            if size >= LARGE:
                self._say(f"{self._count} of {self._total}: downloading {name}, {size / 1e6:.0f} MB", True)
        elif line.startswith("Installing collected packages"):
            self._say(f"{self._total} of {self._total}: unpacking", True)

    def end(self) -> None:
        if self._overwrites:
            print("\r\x1b[K", end="", flush=True)

    def _say(self, text: str, is_milestone: bool) -> None:
        if self._overwrites:
            print(f"\r\x1b[K  {text}", end="", flush=True)
        elif is_milestone:
            print(f"  {text}", flush=True)


def _count(arguments: list[str]) -> int:
    """How many packages the requirement files of the arguments name, without those of Windows."""
    files = [Path(file) for flag, file in itertools.pairwise(arguments) if flag == "-r"]
    lines = [line for file in files for line in file.read_text().splitlines() if line[:1].isalnum()]
    return len({line.partition("=")[0] for line in lines if "win32" not in line})
