"""The Procfile: one service a line, ``name: command``."""

import re
import shlex
import sys
from collections.abc import Iterable
from dataclasses import dataclass

LINE = re.compile(r"(?P<name>[A-Za-z0-9_-]+):\s*(?P<command>\S.*)")


class ProcfileError(Exception):
    """A line is not ``name: command``. The message has its number."""


@dataclass(frozen=True)
class Service:
    """One line of the Procfile."""

    name: str
    command: tuple[str, ...]


def parse(text: str) -> list[Service]:
    """The services of a Procfile. ``python`` means the interpreter of the launcher, and so its environment."""
    services = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = LINE.fullmatch(line.strip())
        if match is None:
            raise ProcfileError(f"line {number} of the Procfile is not NAME: COMMAND")
        program, *arguments = shlex.split(match["command"])
        services.append(Service(match["name"], (sys.executable if program == "python" else program, *arguments)))
    return services


def instances(services: Iterable[Service], workers: int) -> list[tuple[str, Service]]:
    """The processes to start, by name: that of the service, or ``worker.1`` to ``worker.N``."""
    named: list[tuple[str, Service]] = []
    for service in services:
        if service.name == "worker":
            named += [(f"worker.{number}", service) for number in range(1, workers + 1)]
        else:
            named.append((service.name, service))
    return named
