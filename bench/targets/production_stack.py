"""vLLM production-stack's router, in Python: static discovery of one backend, round robin.

Its package, ``vllm_router``, is not on the package index; ``vllm-router`` there is another project. If the variable
``PRODUCTION_STACK`` names a checkout of vllm-project/production-stack, it is installed from there, which needs Python
3.12 or later. Otherwise :mod:`bench.proxy` stands in for it, with the libraries that the router pins. That passes
responses on as the router does and does nothing else, so it costs less.
"""

import os
import shutil

from bench.frames import MODEL
from bench.processes import REPOSITORY
from bench.targets.peer import Peer, PeerMissing

CHECKOUT = "PRODUCTION_STACK"
PYTHONS = ("python3.13", "python3.12")


class ProductionStack(Peer):
    name = "production-stack"
    package = "vllm-router"

    @property
    def checkout(self) -> str:
        return os.environ.get(CHECKOUT, "")

    def requirements(self) -> list[str]:
        return [self.checkout] if self.checkout else super().requirements()

    def python(self) -> str | None:
        if not self.checkout:
            return None
        for name in PYTHONS:
            if found := shutil.which(name):
                return found
        raise PeerMissing("it needs Python 3.12 or later")

    def version(self) -> str:
        if self.checkout:
            return super().version()
        return (
            f"a stand-in that passes bytes on and no more, on the libraries that the router pins; {CHECKOUT} names a "
            f"checkout of the real one, which is not on the package index"
        )

    def start(self) -> None:
        if not self.checkout:
            proxy = str(REPOSITORY / "bench" / "proxy.py")
            self.run("router", self.command("python"), proxy, str(self.port), self.backend)
            return
        self.run(
            "router",
            self.command("vllm-router"),
            *("--host", "127.0.0.1", "--port", str(self.port), "--service-discovery", "static"),
            *("--static-backends", self.backend, "--static-models", MODEL, "--routing-logic", "roundrobin"),
            *("--log-level", "warning"),
        )
