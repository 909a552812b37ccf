"""Reads the imports of the product from its source, and judges them against the order of the rooms."""

import ast
import functools
import graphlib
import itertools
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Import:
    """One import, whether at the top of a module, in a function, for type checking only or named in a string."""

    file: Path
    line: int
    source: str
    target: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.source} -> {self.target}"


@dataclass(frozen=True)
class Order:
    """What may import what."""

    packages: Mapping[str, str]
    """For each package, which others it may import: names of packages or rooms, separated by spaces."""
    rooms: Mapping[str, Sequence[str]]
    """For each package, its rooms from top to bottom. Rooms in one row do not import each other."""
    aliases: Mapping[str, str]
    """Modules that stand for another package's module, which is the only thing they import."""

    def fault(self, one: Import) -> str:
        """Why ``one`` is not allowed; empty if it is."""
        if one.source in self.aliases:
            return "" if one.target == self.aliases[one.source] else "an alias imports only what it stands for"
        package, other = _package(one.source), _package(one.target)
        if package != other:
            allowed = self.packages[package].split()
            inside = any(one.target == name or one.target.startswith(f"{name}.") for name in allowed)
            return "" if inside else f"{package} may import {', '.join(allowed) or 'no other package'}"
        return self._inner_fault(package, _room(one.source), _room(one.target))

    def _inner_fault(self, package: str, room: str, other: str) -> str:
        if package not in self.rooms or room == other or not other:
            return ""
        if not room:
            return "a package's __init__ imports no room of it"
        rows = self.rooms[package]
        places = {name: row for row, names in enumerate(rows) for name in names.split()}
        if missing := {room, other} - set(places):
            return f"{' and '.join(sorted(missing))} has no place in the order of {package}"
        return "" if places[room] < places[other] else f"{package} goes {' > '.join(rows)}"


def faults(root: Path, order: Order) -> list[str]:
    """Every import under ``root`` that points upward or into another process, and a circle if there is one."""
    found = list(imports(root, order.packages))
    wrong = dict.fromkeys(f"{one}: {why}" for one in found if (why := order.fault(one)))
    return list(wrong) + circle(one for one in found if one.source not in order.aliases)


def imports(root: Path, packages: Mapping[str, str]) -> Iterator[Import]:
    """The imports between modules of ``packages``."""
    files = {_module(file.relative_to(root)): file for name in packages for file in sorted((root / name).rglob("*.py"))}
    for source, file in files.items():
        for node in ast.walk(parsed(file)):
            named = _named(node, source, is_package=file.name == "__init__.py")
            for target in [*(_known(name, files) for name in named), _quoted(node, files)]:
                if target and target != source:
                    yield Import(file.relative_to(root), getattr(node, "lineno", 0), source, target)


def circle(graph: Iterator[Import]) -> list[str]:
    """One circle of modules, as the imports that close it; empty if there is none."""
    edges = {(one.source, one.target): one for one in graph}
    sorter = graphlib.TopologicalSorter[str]()
    for source, target in edges:
        sorter.add(source, target)
    try:
        sorter.prepare()
    except graphlib.CycleError as error:
        names = error.args[1][::-1]
        return ["a circle: " + "; ".join(str(edges[pair]) for pair in itertools.pairwise(names))]
    return []


def libraries(folder: Path) -> set[str]:
    """The top-level names that modules in ``folder`` import beyond Python's own."""
    nodes = [node for file in folder.rglob("*.py") for node in ast.walk(parsed(file))]
    names = {name.partition(".")[0] for node in nodes for name in _named(node, "", is_package=False)}
    return names - sys.stdlib_module_names


@functools.cache
def parsed(file: Path) -> ast.Module:
    """The syntax tree of a file."""
    return ast.parse(file.read_text())


def _named(node: ast.AST, source: str, *, is_package: bool) -> list[str]:
    """The dotted names that a node may import: ``a.b`` for ``from a import b`` too, as ``b`` may be a module."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        parents = source.split(".")
        above = parents[: len(parents) - node.level + is_package] if node.level else []
        base = ".".join([*above, *([node.module] if node.module else [])])
        return [f"{base}.{alias.name}" for alias in node.names]
    return []


def _quoted(node: ast.AST, modules: Mapping[str, Path]) -> str:
    """The module that a string names, or of which it names a member, as ``package.module.Class``."""
    if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
        return ""
    module = _known(node.value, modules)
    return module if "." in module else ""  # a word behind a package's name, as in a topic, is no import


def _known(name: str, modules: Mapping[str, Path]) -> str:
    """The module that ``name`` is, or is a member of; empty for a library's."""
    if name in modules:
        return name
    parent = name.rpartition(".")[0]
    return parent if parent in modules and name.rpartition(".")[2].isidentifier() else ""


def _module(file: Path) -> str:
    parts = file.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _package(module: str) -> str:
    return module.partition(".")[0]


def _room(module: str) -> str:
    """The folder or file right under the package; empty for the package's ``__init__``."""
    return ".".join(module.split(".")[1:2])
