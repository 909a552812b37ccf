"""``python -m gateway keys new NAME [FILE]``: makes a key, and adds its entry to the file."""

import fcntl
import hashlib
import os
import secrets
import stat
import sys
import textwrap
from pathlib import Path
from typing import BinaryIO

import yaml

from fleet.process import files
from gateway.access.keys import LONGEST_NAME, KeysError, parse_keys

PREFIX = "cf-"
INDENT = "  "


class FormUnknown(KeysError):
    """The file is valid, but where an entry belongs in it is for a person to see."""


def new_key(name: str) -> tuple[str, str]:
    """A key, and its entry as it stands below ``keys:``."""
    key = PREFIX + secrets.token_urlsafe(32)
    entry = {"name": name, "sha256": hashlib.sha256(key.encode()).hexdigest()}
    return key, textwrap.indent(yaml.safe_dump([entry], sort_keys=False, allow_unicode=True), INDENT)


def add_key(name: str, path: Path) -> str:
    """Append the entry of a new key to a file, which is made if it is not there. Returns the key.

    What stands in the file stays as it is, and a gateway that reads it meanwhile sees the old entries. Raises
    :class:`KeysError`.
    """
    key, entry = new_key(name)
    try:
        if path.exists():
            files.must_be_regular(path)
        with path.open("r+b" if path.exists() else "x+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            _add(name, entry, file)
    except KeysError as error:
        raise type(error)(f"{path}: {error}") from None
    except UnicodeDecodeError:
        raise KeysError(f"{path}: is not text") from None
    except OSError as error:
        raise KeysError(f"{path}: cannot be written: {files.reason(path, error)}") from None
    return key


def _add(name: str, entry: str, file: BinaryIO) -> None:
    old = file.read()
    before = parse_keys(old.decode()) if _has_content(old.decode()) else {}
    if name in (key.name for key in before.values()):
        raise KeysError(f"{name} has a key already: use another name, or remove that entry first")
    new = _with_entry(old.decode(), entry).encode()
    try:
        after = parse_keys(new.decode())
    except KeysError:
        after = {}
    if len(after) != len(before) + 1 or not before.items() <= after.items():
        raise FormUnknown("its form is not understood, and it stays as it is; add the entry yourself")
    kept = len(old) if new.startswith(old) else 0
    file.seek(kept)
    file.write(new[kept:])
    file.truncate()


def _with_entry(text: str, entry: str) -> str:
    root = yaml.compose(text, yaml.SafeLoader)
    if root is None:
        return f"{_ended(text)}keys:\n{entry}"
    keys = next(value for name, value in root.value if name.value == "keys")
    if not keys.value:  # `keys:` or `keys: []`
        rest = text[keys.end_mark.index :]
        return f"{text[: keys.start_mark.index].rstrip()}\n{entry}{rest.lstrip()}"
    return _ended(text) + textwrap.indent(textwrap.dedent(entry), " " * keys.start_mark.column)


def _has_content(text: str) -> bool:
    return any(line.strip() and not line.lstrip().startswith("#") for line in text.splitlines())


def _ended(text: str) -> str:
    return text if not text or text.endswith("\n") else f"{text}\n"


def main(name: str, file: Path | None) -> int:
    """The exit code: 1 if there is no new key."""
    if not name.strip() or len(name) > LONGEST_NAME:
        print(f"a key needs a name of 1 to {LONGEST_NAME} characters", file=sys.stderr)
        return 1
    if file is None:
        _print_both(name)
        return 0
    if file.exists() and (out := _output()) and os.path.samestat(out, file.stat()):
        print(f"{file} gets the entry anyway; do not redirect the output, which has the key, into it", file=sys.stderr)
        return 1
    try:
        key = add_key(name, file)
    except KeysError as error:
        print(error, file=sys.stderr, flush=True)
        if isinstance(error, FormUnknown):
            _print_both(name)
        return 1
    print(f"{file} has an entry for {name}. {_shown(key)}")
    return 0


def _print_both(name: str) -> None:
    """The entry to standard output and the key to standard error: a file that the output goes into holds no key."""
    key, entry = new_key(name)
    out = _output()
    is_new_file = out is not None and stat.S_ISREG(out.st_mode) and not out.st_size
    print(f"{_shown(key)}\nIts entry, which stands below `keys:` in the file of keys:\n", file=sys.stderr, flush=True)
    print(f"keys:\n{entry}" if is_new_file else entry, end="")


def _shown(key: str) -> str:
    return f"The key, which is shown only now:\n\n  {key}\n\nClients send it as  Authorization: Bearer {key}\n"


def _output() -> os.stat_result | None:
    try:
        return os.fstat(sys.stdout.fileno())
    except (OSError, ValueError):  # it is closed, or no file
        return None
