"""API keys: who may ask, for what, and how much. Kept as SHA-256 in a file that is read again when it changes.

::

    keys:
      - name: alice
        sha256: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
        models: [smollm2]          # all, if left out
        requests_per_minute: 60    # these three: no limit, if left out
        tokens_per_minute: 100000
        concurrent: 4
"""

import hashlib
import hmac
import secrets
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fleet import files, logs

log = logs.logger(__name__)

PREFIX = "cf-"


class KeysError(Exception):
    """The file cannot be used; the text is one line that names the file and the field."""


class Key(BaseModel):
    """One key's entry. The key itself is nowhere: ``sha256`` is of its text, in hexadecimal."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1, max_length=100)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    models: frozenset[str] | None = None
    requests_per_minute: int | None = Field(default=None, ge=1)
    tokens_per_minute: int | None = Field(default=None, ge=1)
    concurrent: int | None = Field(default=None, ge=1)

    def allows(self, model: str) -> bool:
        """Whether the key may use ``model``."""
        return self.models is None or model in self.models


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    keys: list[Key]


def digest(key: str) -> str:
    """What is kept of a key."""
    return hashlib.sha256(key.encode()).hexdigest()


def new_key(name: str) -> tuple[str, str]:
    """A fresh key, and its entry for the file."""
    key = PREFIX + secrets.token_urlsafe(32)
    entry = yaml.safe_dump([{"name": name, "sha256": digest(key)}], sort_keys=False)
    return key, "keys:\n" + "".join(f"  {line}\n" for line in entry.splitlines())


def read_keys(path: Path) -> list[Key]:
    """The entries of the file. Raises :class:`KeysError`."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        keys = _File.model_validate(document).keys
    except OSError as error:
        raise KeysError(f"{path}: cannot be read: {error.strerror}") from None
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in problem["loc"])
        raise KeysError(f"{path}: {field}: {problem['msg']}") from None
    except (yaml.YAMLError, ValueError, RecursionError):
        raise KeysError(f"{path}: is not YAML") from None
    if len({key.name for key in keys}) < len(keys):
        raise KeysError(f"{path}: two keys have the same name")
    return keys


class KeyRing:
    """The keys that are good now. Raises :class:`KeysError` at construction, if the file cannot be used."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp = self._look()
        self._keys = read_keys(path)
        self._said = ""

    def find(self, key: str) -> Key | None:
        """The entry of a key; compared in constant time, and with every entry."""
        wanted = digest(key)
        found = None
        for entry in self._keys:
            if hmac.compare_digest(entry.sha256, wanted):
                found = entry
        return found

    def refresh(self) -> None:
        """Read the file again if it has changed. One that cannot be used is reported once and changes nothing."""
        stamp = self._look()
        if stamp == self._stamp:
            return
        try:
            self._keys = read_keys(self._path)
        except KeysError as error:
            if str(error) != self._said:
                log.error("keys not reloaded", reason=str(error))
                self._said = str(error)
            return
        self._stamp, self._said = stamp, ""
        log.info("keys reloaded", keys=len(self._keys))

    def _look(self) -> files.Stamp:
        try:
            return files.stamp(self._path)
        except OSError:
            return 0, 0, 0
