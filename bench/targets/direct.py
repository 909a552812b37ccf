"""No gateway: the clients ask the backend itself. This measures the backend, loopback and the load generator."""

from bench.targets.target import Target


class Direct(Target):
    name = "direct"

    def start(self) -> None:
        self.port = int(self.backend.rpartition(":")[2])

    def is_ready(self) -> bool:
        return True

    def version(self) -> str:
        return "no gateway"
