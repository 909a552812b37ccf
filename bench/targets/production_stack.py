"""vLLM production-stack's router, in Python: static discovery of one backend, round robin.

Its package, ``vllm_router``, is not on the package index, where ``vllm-router`` is another project. It is installed
from a checkout of vllm-project/production-stack, which ``PRODUCTION_STACK`` names, and needs Python 3.12 or later.
"""

import os
import shutil

from bench.backend import MODEL
from bench.targets.peer import Peer, PeerMissing

CHECKOUT = "PRODUCTION_STACK"
PYTHONS = ("python3.13", "python3.12")


class ProductionStack(Peer):
    name = "production-stack"
    package = "vllm-router"

    def requirements(self) -> list[str]:
        return [os.environ.get(CHECKOUT, "")]

    def python(self) -> str | None:
        for name in PYTHONS:
            if found := shutil.which(name):
                return found
        raise PeerMissing("it needs Python 3.12 or later")

    def prepare(self) -> None:
        if not os.environ.get(CHECKOUT):
            raise PeerMissing(
                f"its router is not on the package index; check out vllm-project/production-stack "
                f"and let {CHECKOUT} name the folder"
            )
        super().prepare()

    def start(self) -> None:
        self.run(
            "router",
            self.command("vllm-router"),
            *("--host", "127.0.0.1", "--port", str(self.port), "--service-discovery", "static"),
            *("--static-backends", self.backend, "--static-models", MODEL, "--routing-logic", "roundrobin"),
            *("--log-level", "warning"),
        )
