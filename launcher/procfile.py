"""The Procfile: one line per service, ``name: command``."""

import re
import shlex
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

LINE = re.compile(r"(?P<name>[A-Za-z0-9_-]+):\s*(?P<command>\S.*)")


class ProcfileError(Exception):
    """A line that is not ``name: command``; the message says which."""


@dataclass(frozen=True)
class Service:
    """One line: what is started, as often as its name says."""

    name: str
    command: tuple[str, ...]


def parse(text: str) -> list[Service]:
    """The services of a Procfile. ``python`` is the interpreter that runs the launcher, and so the same environment."""
    services = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        found = LINE.fullmatch(line.strip())
        if found is None:
            raise ProcfileError(f"line {number} of the Procfile is not NAME: COMMAND")
        program, *arguments = shlex.split(found["command"])
        services.append(Service(found["name"], (sys.executable if program == "python" else program, *arguments)))
    return services


def instances(services: Iterable[Service], workers: int) -> Sequence[tuple[str, Service]]:
    """Each process to start, by name: the service's own, or ``worker.1`` to ``worker.N``."""
    return [
        (f"{service.name}.{number}" if service.name == "worker" else service.name, service)
        for service in services
        for number in range(1, 1 + (workers if service.name == "worker" else 1))
    ]
