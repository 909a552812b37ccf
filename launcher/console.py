"""The terminal, or the file, that everybody's lines go to."""

import os
from collections.abc import Callable, Iterable
from typing import TextIO

COLOURS = (36, 32, 33, 35, 34, 96, 92, 93, 95, 94)
"""ANSI foreground colours, given out in turn; red is left to those who mean it."""


class Console:
    """Prefixes lines with who wrote them. Coloured on a terminal, unless NO_COLOR is set."""

    def __init__(self, out: TextIO, names: Iterable[str], on_closed: Callable[[], None]) -> None:
        """``on_closed`` is called once, when nobody reads ``out`` any more: what follows is dropped."""
        self._out = out
        self._on_closed = on_closed
        self._closed = False
        names = list(names)
        width = max(map(len, names), default=0)
        coloured = out.isatty() and not os.environ.get("NO_COLOR")
        self._prefixes = {
            name: f"\x1b[{COLOURS[turn % len(COLOURS)]}m{name:<{width}} |\x1b[0m "
            if coloured
            else f"{name:<{width}} | "
            for turn, name in enumerate(names)
        }

    def line(self, name: str, text: str) -> None:
        """One line by ``name``."""
        self.plain(self._prefixes[name] + text)

    def plain(self, text: str) -> None:
        """Text that stands for itself, ready to be copied."""
        if self._closed:
            return
        try:
            self._out.write(text + "\n")
            self._out.flush()
        except OSError:  # `make run | head`, or a terminal that has gone
            self._closed = True
            self._on_closed()
