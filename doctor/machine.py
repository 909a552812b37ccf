"""This machine and this tree: versions, packages, disk, open files, clock."""

import ctypes
import platform
import re
import resource
import shutil
import sys
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from doctor.findings import Finding, note, ok, problem, warning
from fleet.process.version import VERSION

TREE = Path(__file__).parents[1]
_PIN = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>\S+)(?! *;)\s*\\?$", re.MULTILINE)

MIB = 1024 * 1024
LITTLE, VERY_LITTLE = 1024 * MIB, 100 * MIB
"""Bytes of a disk."""

FILES = 4096
"""Open files that a process can need: two for each stream."""

TIME_ERROR = 5
"""What adjtimex returns of a clock that nothing synchronises."""


def check() -> Iterator[Finding]:
    yield from versions()
    yield from disks()
    yield files()
    yield _clock()


def versions() -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    yield ok(f"chatfleet {VERSION} in {TREE}, Python {version}, {platform.system()} {platform.release()}")
    if not (3, 11) <= sys.version_info < (3, 14):
        yield problem(f"Python {version} is not supported", "use 3.11, 3.12 or 3.13")
    try:
        pins = [found.group("name", "version") for found in _PIN.finditer((TREE / "requirements.txt").read_text())]
    except OSError:  # in the image
        return
    wrong = [f"{name} {has or 'missing'} (not {wants})" for name, wants in pins if (has := _installed(name)) != wants]
    if wrong:
        yield problem(f"packages differ from requirements.txt: {', '.join(wrong[:5])}", "make setup")
    else:
        yield ok(f"{len(pins)} packages as requirements.txt pins them")


def _installed(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def disks() -> Iterator[Finding]:
    places = {place.stat().st_dev: place for place in (Path(tempfile.gettempdir()), Path.cwd())}
    for place in places.values():
        free = shutil.disk_usage(place).free
        text = f"{free // MIB:,} MiB are free where {place} lies"
        advice = "make room: docker system df, du -xh --max-depth=2 / | sort -h | tail"
        if free < VERY_LITTLE:
            yield problem(text, advice)
        elif free < LITTLE:
            yield warning(text, advice)
        else:
            yield ok(text)


def files() -> Finding:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= most < FILES:
        text = f"a process may open {most} files, about two for each stream"
        return warning(text, "raise it: LimitNOFILE= of systemd, ulimits: in Compose, ulimit -Hn in a shell")
    return ok(f"a process may open {'any number of' if most < 0 else most} files")


def _clock() -> Finding:
    advice = "certificates and logs need the time: timedatectl set-ntp true, on the machine itself"
    try:
        state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(1024))
    except (AttributeError, OSError):
        return note("whether the clock is synchronised cannot be told on this system")
    if state == TIME_ERROR:
        return note("nothing synchronises the clock, as far as the kernel knows", advice)
    return ok("the clock is synchronised") if state >= 0 else note("the clock's state cannot be read")
