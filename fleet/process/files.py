"""Tells whether a file was replaced or changed, for files that a running process reads again."""

from pathlib import Path

Stamp = tuple[int, int, int]


def stamp(path: Path) -> Stamp:
    """Differs once the file was replaced or written. Raises ``OSError`` if it cannot be read."""
    stat = path.stat()
    return stat.st_mtime_ns, stat.st_size, stat.st_ino
