"""The naive fleet: see :mod:`bench.naive`."""

import socket
import sys
from importlib.metadata import version

from bench.frames import MODEL
from bench.processes import free_port, wait_until
from bench.targets.target import Target, answers


class Naive(Target):
    name = "naive"

    def start(self) -> None:
        port = free_port()
        host = f"127.0.0.1:{port}"
        self.run("host", sys.executable, "-m", "bench.naive.host", host)
        wait_until(lambda: _listens(port), 30, "the naive host listens")  # its members do not wait for it
        self.run("worker", sys.executable, "-m", "bench.naive.worker", host, MODEL, f"{self.backend}/v1")
        self.run("gateway", sys.executable, "-m", "bench.naive.gateway", host, str(self.port))

    def is_ready(self) -> bool:
        return answers(f"http://127.0.0.1:{self.port}/health") is not None

    def version(self) -> str:
        return f"one event per token on stock AutoGen {version('autogen-core')}, 1 worker"


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
