"""Command lines of processes. What they do is set by the environment, so most have no arguments."""

import argparse
import sys
from typing import NoReturn

SETTINGS = "Settings are environment variables; docs/operations.md lists them."


class Parser(argparse.ArgumentParser):
    """Prints usage for ``--help``, and refuses by name what it does not know (exit code 2)."""

    def error(self, message: str) -> NoReturn:
        """Name an option that is not known before a missing argument, of which argparse alone would tell."""
        given = (word.partition("=")[0] for word in sys.argv[1:] if word.startswith("--"))
        unknown = [word for word in given if word not in self._option_string_actions]
        super().error(f"unrecognized arguments: {' '.join(unknown)}" if unknown else message)


def parser(program: str, does: str) -> Parser:
    return Parser(prog=f"python -m {program}", description=does, epilog=SETTINGS, allow_abbrev=False)


def read(program: str, does: str, *names: str) -> list[str]:
    """The arguments, which are exactly those of these ``names``."""
    reader = parser(program, does)
    for name in names:
        reader.add_argument(name)
    given = vars(reader.parse_args())
    return [given[name] for name in names]
