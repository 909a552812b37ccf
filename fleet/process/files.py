"""Reads the files of an operator, tells whether one was replaced or changed, and why one cannot be read."""

import errno
import os
import stat as stats
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Generic, TypeVar

Stamp = tuple[int, int, int]
S = TypeVar("S", bound=Hashable)

RELOAD_EVERY = 1.0
"""Seconds between two looks at files that are read again by themselves."""


def stamp(path: Path) -> Stamp:
    """Differs once the file was replaced or written. Raises ``OSError`` if it cannot be read."""
    stat = path.stat()
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


def text(path: Path, encoding: str = "utf-8") -> str:
    """What the file holds. Raises ``OSError``, as :func:`must_be_regular`, and ``UnicodeDecodeError``."""
    must_be_regular(path)
    return path.read_text(encoding)


def must_be_regular(path: Path) -> None:
    """Raises ``OSError`` unless it is a regular file or a folder, whose reading fails: a pipe would be waited for."""
    mode = path.stat().st_mode
    if not stats.S_ISREG(mode) and not stats.S_ISDIR(mode):
        raise OSError(errno.EINVAL, "is not a regular file")


def existing(path: Path) -> tuple[Stamp, bool] | None:
    """Its stamp, and whether it may be read; None if it is not there."""
    try:
        return stamp(path), os.access(path, os.R_OK)
    except OSError:
        return None


def is_orphan(path: Path) -> bool:
    """Whether the file has no name any longer: it is mounted, and another one has taken its name outside."""
    try:
        return path.stat().st_nlink == 0
    except OSError:
        return False


class Changes(Generic[S]):
    """Whether files have changed since they were used or refused last, and whether a problem with them is news.

    ``stamp`` differs once they have changed.
    """

    def __init__(self, stamp: Callable[[], S]) -> None:
        self._stamp = stamp
        self._seen = stamp()
        self._is_due = False
        self._told = ""

    def found(self) -> S | None:
        """The new stamp, or None if nothing has changed."""
        stamp = self._stamp()
        return None if stamp == self._seen and not self._is_due else stamp

    def accept(self, stamp: S) -> bool:
        """Whether that ends a problem."""
        was_told = bool(self._told)
        self._seen, self._is_due, self._told = stamp, False, ""
        return was_told

    def refuse(self, problem: str, stamp: S | None = None) -> bool:
        """Whether ``problem`` is news. Without a ``stamp`` the files count as changed until they can be used."""
        self._is_due = stamp is None  # also if they come back as they were
        if stamp is not None:
            self._seen = stamp
        is_news, self._told = problem != self._told, problem
        return is_news


def reason(path: Path, error: OSError) -> str:
    """Why a file cannot be used, in words for its owner."""
    words = (error.strerror or type(error).__name__).lower()
    if not isinstance(error, PermissionError):
        return words
    closed = next((place for place in (*reversed(path.absolute().parents), path) if not _is_open(place)), path)
    try:
        stat = closed.stat()
    except OSError:
        return words
    owner = f"belongs to user {stat.st_uid} and has mode {stat.st_mode & 0o7777:03o}"
    return f"{words}: this process is user {os.geteuid()}, and {closed} {owner}"


def _is_open(place: Path) -> bool:
    needed = os.X_OK if place.is_dir() else os.R_OK
    return os.access(place, needed, effective_ids=os.access in os.supports_effective_ids)
