"""A YAML file that a person writes: its errors are one line that names the file and the place."""

import difflib
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, BeforeValidator, Field, ValidationError

from fleet.process import files

MOST_RUNS = 100_000

TEXT, MERGE = "tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"
"""YAML's tags of text, and of `<<`."""

T = TypeVar("T", bound=BaseModel)


class DocumentError(Exception):
    """The file cannot be used; the text names the file, the entry and the field."""


class _Loader(yaml.SafeLoader):
    """Reads names as they are written, and refuses one that is there twice: the first would be lost."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != MERGE:
                key.tag = TEXT  # YAML would read 4.10 as 4.1, and `on` as true
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"{key.value} is there twice", key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def read(path: Path, sections: Collection[str] = (), problems: dict[str, str] | None = None) -> Any:
    """What the file holds. Raises :class:`DocumentError`.

    Entries of ``sections`` that are there twice are left out, and noted in ``problems`` by their places.
    """
    try:
        loader = _Loader(files.text(path))
        node = loader.get_single_node()
        if isinstance(node, yaml.MappingNode) and problems is not None:
            for key, section in node.value:
                if key.value in sections and isinstance(section, yaml.MappingNode):
                    for name, told in _without_twins(section).items():
                        problems[f"{key.value}.{name}"] = f"{path}: {key.value}.{name}: {told}"
        return None if node is None else loader.construct_document(node)
    except OSError as error:
        raise DocumentError(f"{path}: cannot be read: {files.reason(path, error)}") from None
    except UnicodeDecodeError:
        raise DocumentError(f"{path}: is not UTF-8 text") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 1})" if mark else ""
        raise DocumentError(f"{path}: is not YAML{where}: {getattr(error, 'problem', error)}") from None
    except (ValueError, RecursionError) as error:
        raise DocumentError(f"{path}: is not YAML: {error}") from None


def _without_twins(section: yaml.MappingNode) -> dict[str, str]:
    """Take entries of one name out; return by name what is wrong."""
    found: dict[str, list[Any]] = {}
    for pair in section.value:
        found.setdefault(str(pair[0].value), []).append(pair)
    section.value = [pairs[0] for pairs in found.values() if len(pairs) == 1]
    return {
        name: f"is there twice (line {pairs[1][0].start_mark.line + 1})"
        for name, pairs in found.items()
        if len(pairs) > 1
    }


def checked(where: str, kind: type[T], given: Any) -> T:
    """``given`` as ``kind``. Raises :class:`DocumentError`, which names the field."""
    if not isinstance(given, dict):
        raise DocumentError(f"{where}: must be a mapping")
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            raise DocumentError(f"{where}.{field}: is not known here{nearest(field, kind.model_fields)}") from None
        raise DocumentError(f"{where}{'.' if field else ''}{field}: {problem['msg']}") from None


def _number(value: object) -> object:
    """A number that a variable holds; the field is strict otherwise."""
    return int(value) if isinstance(value, str) and value.isascii() and value.isdecimal() else value


Concurrency = Annotated[int | None, BeforeValidator(_number), Field(ge=1, le=MOST_RUNS)]
"""Runs at once."""


def nearest(name: str, known: Iterable[str]) -> str:
    """``; did you mean …?``, or what is known if nothing is near."""
    known = [*known]
    if near := difflib.get_close_matches(name, known, 1):
        return f"; did you mean {near[0]}?"
    return f"; known: {', '.join(known) or 'none'}"
