"""What all targets have in common."""

import shutil
import tempfile
import urllib.error
import urllib.request
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar, Self

from bench.processes import REPOSITORY, Process, free_port, stop_all, wait_until

START = 90.0
"""Seconds within which a target must be ready."""


class Target(ABC):
    """An OpenAI-compatible server in front of the backend; it runs inside its ``with``."""

    name: ClassVar[str]
    speaks_http = True
    workers = 0
    """Its number of workers, if it is our fleet."""

    def __init__(self, backend: int) -> None:
        self.backend = f"http://127.0.0.1:{backend}"
        self.port = 0
        self.key = "none"
        """The API key that clients send."""
        self.tree = REPOSITORY
        """The folder from which its commands run."""
        self.processes: list[Process] = []

    @property
    def ports(self) -> list[int]:
        """The ports on which it serves clients."""
        return [self.port]

    @abstractmethod
    def start(self) -> None:
        """Start every process without waiting for it."""

    @abstractmethod
    def is_ready(self) -> bool:
        """Whether it serves requests now."""

    def prepare(self) -> None:  # noqa: B027
        """Install what it needs, once per benchmark."""

    def version(self) -> str:
        """What exactly is measured."""
        return "this tree"

    def run(self, name: str, *command: str, **settings: str) -> Process:
        """Start one of its processes."""
        process = Process(name, command, self.folder, settings, self.tree)
        self.processes.append(process)
        return process

    def __enter__(self) -> Self:
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="chatfleet-bench-"))
        try:
            self.start()
            wait_until(self._settled, START, f"{self.name} is ready")
        except BaseException as error:
            error.add_note(self.logs())
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        stop_all(self.processes)
        self.processes.clear()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _settled(self) -> bool:
        for process in self.processes:
            if not process.is_alive:
                raise RuntimeError(f"its process {process.name} ended")
        return self.is_ready()

    def logs(self) -> str:
        """The end of its processes' output."""
        return "\n".join(f"--- {process.name}\n{process.log()}" for process in self.processes)


def answers(url: str) -> bytes | None:
    """The body of a 200 response from this URL; None otherwise."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            body: bytes = answer.read()
            return body
    except (OSError, urllib.error.HTTPError):
        return None
