"""Tells whether a file that a running process reads again was replaced or changed, and why one cannot be read."""

import os
from pathlib import Path

Stamp = tuple[int, int, int]


def stamp(path: Path) -> Stamp:
    """Differs once the file was replaced or written. Raises ``OSError`` if it cannot be read."""
    stat = path.stat()
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


def reason(path: Path, error: OSError) -> str:
    """Why a file cannot be used, in words for its owner."""
    words = (error.strerror or type(error).__name__).lower()
    if not isinstance(error, PermissionError):
        return words
    for place in (*reversed(path.absolute().parents), path):
        try:
            stat = place.stat()
        except OSError:
            break
        needed = os.X_OK if place.is_dir() else os.R_OK
        if not os.access(place, needed, effective_ids=os.access in os.supports_effective_ids):
            owner = f"belongs to user {stat.st_uid} and has mode {stat.st_mode & 0o7777:03o}"
            return f"{words}: this process is user {os.geteuid()}, and {place} {owner}"
    return words
