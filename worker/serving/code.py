"""Own code beside ``agents.yaml``, which is imported again when it has changed."""

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from types import ModuleType

from fleet.process import files

MOST_FILES = 2000
"""Files that are watched."""


class OwnCode(files.Changes[str]):
    """The modules of ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.absolute()
        self._inside = f"{self._folder}{os.sep}"
        super().__init__(lambda: str(self.stamps()))

    def stamps(self) -> list[tuple[str, object]]:
        try:
            found = sorted(islice(self._folder.rglob("*.py"), MOST_FILES))
        except OSError:  # a folder that went away meanwhile
            found = []
        return [(str(path), files.existing(path)) for path in found]

    @contextmanager
    def fresh(self) -> Iterator[None]:
        """Within it modules are imported again. If it raises, the former ones stay.

        A module is not reloaded in place: what runs goes on with the one that it began with.
        """
        former = self._imported()
        self._forget(former)
        try:
            yield
        except BaseException:
            self._forget(self._imported())
            sys.modules.update(former)
            raise

    def _forget(self, modules: dict[str, ModuleType]) -> None:
        for name in modules:
            del sys.modules[name]
        importlib.invalidate_caches()

    def _imported(self) -> dict[str, ModuleType]:
        return {name: module for name, module in list(sys.modules.items()) if self._is_own(module)}

    def _is_own(self, module: ModuleType) -> bool:
        known = getattr(module, "__dict__", {})  # others make what is asked of them
        places = [known.get("__file__"), *(known.get("__path__") or ())]
        return any(str(place).startswith(self._inside) for place in places)
