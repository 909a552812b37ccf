"""Where the output of all processes goes: the terminal, or a file."""

import errno
import os
from collections.abc import Callable, Iterable
from typing import TextIO

COLOURS = (36, 32, 33, 35, 34, 96, 92, 93, 95, 94)
"""ANSI foreground colours, used in turn. Red is left to the processes' own errors."""

FULL = (errno.ENOSPC, errno.EDQUOT)


class Console:
    """Prefixes each line with the name of its process. Coloured on a terminal, unless NO_COLOR is set."""

    def __init__(self, out: TextIO, names: Iterable[str], on_closed: Callable[[], None]) -> None:
        """``on_closed`` is called once, when no one reads ``out`` any more; later lines are dropped."""
        self._out = out
        self._on_closed = on_closed
        self._closed = False
        self.lines = 0
        """How many were written."""
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
        self.plain(self._prefixes[name] + text)

    def plain(self, text: str) -> None:
        """Write text without a prefix, so that it can be copied."""
        if self._closed:
            return
        try:
            self._out.write(text + "\n")
            self._out.flush()
            self.lines += 1
        except OSError as error:
            if error.errno in FULL:  # the line is lost, as the processes' own would be
                return
            self._closed = True  # `make run | head`, or a closed terminal
            self._on_closed()
