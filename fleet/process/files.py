"""Telling whether a file has been replaced or changed, for those that are read again while a process runs."""

from pathlib import Path

Stamp = tuple[int, int, int]


def stamp(path: Path) -> Stamp:
    """What differs when a file is another or holds something else. Raises ``OSError`` when it cannot be looked at."""
    stat = path.stat()
    return stat.st_mtime_ns, stat.st_size, stat.st_ino
