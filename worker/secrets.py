"""Environment variables from files: how container engines and Kubernetes hand out secrets."""

import os
import re
from collections.abc import MutableMapping
from pathlib import Path

from fleet.process import files

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class SecretsError(Exception):
    """A secret cannot be used; the text names the file and never what is in it."""


class Secrets:
    """The variable that each file in ``folder`` is named after. Files with other names are left alone.

    A variable that is set otherwise goes before its file.
    """

    def __init__(self, folder: Path | None, environment: MutableMapping[str, str] = os.environ) -> None:
        self._folder = folder
        self._environment = environment
        self._adopted: dict[str, str] = {}

    def adopt(self) -> None:
        """Set the variables to what the files hold now. Raises :class:`SecretsError`, and changes nothing then."""
        values = {file.name: _read(file) for file in self._files()}
        environment = self._environment
        ours = {name for name, value in self._adopted.items() if environment.get(name) == value}
        self._adopted = {name: value for name, value in values.items() if name in ours or not environment.get(name)}
        for name in ours - self._adopted.keys():
            del environment[name]
        environment.update(self._adopted)

    def stamps(self) -> list[tuple[str, object]]:
        """Differ once the files have changed."""
        try:
            return [(file.name, files.existing(file)) for file in self._files()]
        except SecretsError as error:
            return [(str(error), None)]

    def _files(self) -> list[Path]:
        if self._folder is None:
            return []
        try:
            return sorted(file for file in self._folder.iterdir() if _NAME.fullmatch(file.name) and file.is_file())
        except OSError as error:
            raise SecretsError(f"{self._folder}: cannot be read: {files.reason(self._folder, error)}") from None


def _read(file: Path) -> str:
    try:
        value = files.text(file).strip()
    except OSError as error:
        raise SecretsError(f"{file}: cannot be read: {files.reason(file, error)}") from None
    except UnicodeDecodeError:
        raise SecretsError(f"{file}: is not UTF-8 text") from None
    if "\0" in value:
        raise SecretsError(f"{file}: holds a NUL byte")
    return value
