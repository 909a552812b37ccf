"""The variables that ``models.yaml`` and ``agents.yaml`` may name: the environment's, and those that files hold."""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from fleet.process import files

MOST = 64 * 1024
"""Bytes of one variable."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def variables(folder: Path | None) -> Mapping[str, str]:
    """The environment, and for each file of ``folder`` the variable of its name. A file wins: it can change."""
    found = dict(os.environ)
    for path in paths(folder):
        try:
            with path.open("rb") as file:
                found[path.name] = file.read(MOST).decode("utf-8", "replace").rstrip("\r\n")
        except OSError:
            continue  # it is as if it was not there: an entry that needs it says so
    return found


def paths(folder: Path | None) -> Iterator[Path]:
    try:
        inside = sorted(folder.iterdir()) if folder is not None else []
    except OSError:
        inside = []
    yield from (path for path in inside if _NAME.fullmatch(path.name) and path.is_file())


def stamps(folder: Path | None) -> list[tuple[str, object]]:
    return [(path.name, files.existing(path)) for path in paths(folder)]
