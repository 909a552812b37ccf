"""How much memory this process may use, by its control groups, as containers set it."""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

NO_LIMIT = 2**60
"""From here on a number means none: version 1 has no other word for it."""


def limit(groups: Path = Path("/proc/self/cgroup"), mount: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Bytes; the least of its groups' limits. None where none has one, or the system has no such groups."""
    found = [value for file in _files(groups, mount) if (value := _read(file)) is not None]
    return min(found, default=None)


def _files(groups: Path, mount: Path) -> Iterator[Path]:
    """Where its group and each group around it have their limits. A container sees its own group as the root."""
    try:
        lines = groups.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers in ("", "memory"):
            inner = PurePosixPath(path.lstrip("/"))
            for group in (inner, *inner.parents):
                yield mount / controllers / group / ("memory.limit_in_bytes" if controllers else "memory.max")


def _read(file: Path) -> int | None:
    try:
        value = int(file.read_text())
    except (OSError, ValueError):  # ValueError: the word "max"
        return None
    return value if value < NO_LIMIT else None
