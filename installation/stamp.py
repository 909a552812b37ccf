"""Remembers what was installed: a file that holds the sum of the requirements, and whose date is for ``make``."""

import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path


class Stamp:
    def __init__(self, file: Path, requirements: Sequence[str]) -> None:
        self._file = file
        self._requirements = [Path(name) for name in requirements]

    def is_fresh(self) -> bool:
        """Whether exactly this was installed. If so, the file gets a new date, as git gives the requirements one."""
        try:
            same = self._file.read_text() == self._sum()
        except OSError:
            return False
        if same:
            self._file.touch()
        return same

    def set(self) -> None:
        self._file.write_text(self._sum())

    def _sum(self) -> str:
        content = b"".join(path.read_bytes() for path in self._requirements)
        return f"{sys.version_info[0]}.{sys.version_info[1]} {hashlib.sha256(content).hexdigest()}\n"
