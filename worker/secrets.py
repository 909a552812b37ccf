"""Environment variables from files: how container engines and Kubernetes hand out secrets."""

import os
import re
from collections.abc import MutableMapping
from pathlib import Path

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class SecretsError(Exception):
    """A secret cannot be used; the text names the file and never what is in it."""


def adopt(folder: Path, environment: MutableMapping[str, str] = os.environ) -> None:
    """Set the variable that each file in ``folder`` is named after, unless it is set already.

    Files with other names than a variable's are left alone. Raises :class:`SecretsError`.
    """
    try:
        files = sorted(file for file in folder.iterdir() if _NAME.fullmatch(file.name) and file.is_file())
    except OSError as error:
        raise SecretsError(f"{folder}: cannot be read: {error.strerror}") from None
    for file in files:
        try:
            value = file.read_text(encoding="utf-8").strip()
        except OSError as error:
            who = f"; user {os.getuid()}, as which this process runs, must be able to read it"
            raise SecretsError(f"{file}: cannot be read: {error.strerror}{who}") from None
        except UnicodeDecodeError:
            raise SecretsError(f"{file}: is not UTF-8 text") from None
        if "\0" in value:
            raise SecretsError(f"{file}: holds a NUL byte")
        if not environment.get(file.name):
            environment[file.name] = value
