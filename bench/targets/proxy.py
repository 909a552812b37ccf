"""The least that a gateway in Python must do: see :mod:`bench.proxy`."""

import sys

from bench.targets.target import Target, answers


class Proxy(Target):
    name = "proxy"

    def start(self) -> None:
        self.run("proxy", sys.executable, "-m", "bench.proxy", str(self.port), self.backend)

    def is_ready(self) -> bool:
        return answers(f"http://127.0.0.1:{self.port}/health") is not None

    def version(self) -> str:
        return "FastAPI, aiohttp and uvloop passing bytes on in one process"
