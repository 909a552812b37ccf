"""API keys: who may ask, for what, and how much. The file holds their SHA-256, and is read again when it changes.

::

    keys:
      - name: alice
        sha256: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
        models: [smollm2]          # all, if left out
        requests_per_minute: 60    # these three: no limit, if left out
        tokens_per_minute: 100000
        concurrent: 4
"""

import asyncio
import contextlib
import gc
import hashlib
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fleet import logs
from fleet.process import files

log = logs.logger(__name__)

DEPTH = 20

LONGEST_NAME = 100

FORM = "the file holds `keys:`, once, and below it a list of entries"


class KeysError(Exception):
    """The file cannot be used. The text is one line that names the file and the field."""


class KeysUnreadable(KeysError):
    """The file is not there, or may not be read."""


class Key(BaseModel):
    """One key's entry. ``sha256`` is the hash of the key's text in hexadecimal; the key itself is not stored."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1, max_length=LONGEST_NAME)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    models: frozenset[str] | None = None
    requests_per_minute: int | None = Field(default=None, ge=1)
    tokens_per_minute: int | None = Field(default=None, ge=1)
    concurrent: int | None = Field(default=None, ge=1)

    def allows(self, model: str) -> bool:
        return self.models is None or model in self.models


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    keys: list[Any] | None
    """None as in a file whose entries are all commented out."""


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def read_keys(path: Path) -> dict[str, Key]:
    """The file's entries by their ``sha256``. Raises :class:`KeysError`. Made for a thread: 10,000 take 1 s."""
    try:
        return parse_keys(files.text(path))
    except FileNotFoundError:
        advice = f"make it with a first key: python -m gateway keys new NAME {path}"
        raise KeysUnreadable(f"{path}: is not there; {advice}") from None
    except OSError as error:
        raise KeysUnreadable(f"{path}: cannot be read: {files.reason(path, error)}") from None
    except UnicodeDecodeError:
        raise KeysError(f"{path}: is not YAML") from None
    except KeysError as error:
        raise KeysError(f"{path}: {error}") from None


def parse_keys(text: str) -> dict[str, Key]:
    """As :func:`read_keys`, of a file's content."""
    try:
        with _without_collections():
            _check_depth(text)
            return _by_hash(_entries(_File.model_validate(_document(text))))
    except ValidationError as error:
        raise KeysError(f"{_sentence(error)}; {FORM}") from None
    except yaml.MarkedYAMLError as error:
        where = f" (line {error.problem_mark.line + 1})" if error.problem_mark else ""
        raise KeysError(f"is not YAML{where}") from None
    except (yaml.YAMLError, ValueError):
        raise KeysError("is not YAML") from None


def _check_depth(text: str) -> None:
    depth = 0
    for event in yaml.parse(text, yaml.CSafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > DEPTH:  # the C loader would exhaust the stack
            raise KeysError(f"nested more than {DEPTH} deep")


def _document(text: str) -> Any:
    loader = yaml.CSafeLoader(text)
    root = loader.get_single_node()
    if root is None:
        return None
    _check_names(root)
    document = loader.construct_document(root)
    # The nodes of a large file, freed in one step, would block all threads for 20 ms.
    for branch in itertools.chain.from_iterable(root.value if isinstance(root, yaml.MappingNode) else ()):
        while isinstance(branch.value, list) and branch.value:
            branch.value.pop()
    return document


def _check_names(root: yaml.Node) -> None:
    """Raise :class:`KeysError` for a name that stands twice in one mapping, of which YAML would take the last."""
    branches = root.value if isinstance(root, yaml.MappingNode) else ()
    entries = itertools.chain.from_iterable(
        value.value for _, value in branches if isinstance(value, yaml.SequenceNode)
    )
    for mapping in itertools.chain((root,), entries):
        lines: dict[str, int] = {}
        for name, _ in mapping.value if isinstance(mapping, yaml.MappingNode) else ():
            line = name.start_mark.line + 1
            if (text := str(name.value)) in lines:
                raise KeysError(f"`{text}:` stands twice, in lines {lines[text]} and {line}; {FORM}")
            lines[text] = line


@contextlib.contextmanager
def _without_collections() -> Iterator[None]:
    """Switch garbage collection off: each collection would scan the whole tree, with all threads blocked."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def _entries(document: _File) -> Iterator[Key]:
    # One by one: a single call for all of them would hold the interpreter's lock.
    for number, entry in enumerate(document.keys or ()):
        try:
            yield Key.model_validate(entry)
        except ValidationError as error:
            raise KeysError(f"keys.{number}.{_sentence(error)}") from None


def _by_hash(entries: Iterator[Key]) -> dict[str, Key]:
    keys: dict[str, Key] = {}
    names: set[str] = set()
    for key in entries:
        if key.name in names:
            raise KeysError(f"two keys have the same name: {key.name}")
        if key.sha256 in keys:
            raise KeysError(f"two keys have the same sha256: {keys[key.sha256].name} and {key.name}")
        names.add(key.name)
        keys[key.sha256] = key
    return keys


def _sentence(error: ValidationError) -> str:
    problem = error.errors(include_url=False, include_input=False)[0]
    field = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"{field}: is not known here"
    return f"{field}: {problem['msg']}" if field else "holds no mapping"


class KeyRing:
    """The valid keys. Raises :class:`KeysError` at construction, if the file cannot be used."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._changes = files.Changes(self._stamp)
        self._keys = read_keys(path)

    def names(self) -> list[str]:
        return [key.name for key in self._keys.values()]

    def find(self, key: str) -> Key | None:
        """A key's entry. The time this takes depends on the hash alone, which reveals nothing about the keys."""
        return self._keys.get(digest(key))

    async def refresh(self) -> None:
        """Read the file again, in a thread, if it has changed.

        A file that cannot be used is reported once and changes nothing.
        """
        stamp = self._changes.found()
        if stamp is None:
            return
        try:
            keys = await asyncio.to_thread(read_keys, self._path)
        except KeysError as error:
            if self._changes.refuse(str(error), None if isinstance(error, KeysUnreadable) else stamp):
                log.error("keys not reloaded", reason=str(error))
            return
        self._keys = keys
        self._changes.accept(stamp)
        log.info("keys reloaded", keys=len(keys))

    def _stamp(self) -> files.Stamp:
        try:
            return files.stamp(self._path)
        except OSError:
            return 0, 0, 0
