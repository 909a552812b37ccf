"""Shepherd Model Gateway (formerly SGLang's router), in Rust. It costs little more than copying bytes."""

from bench.targets.peer import Peer


class Smg(Peer):
    name = "smg"
    package = "smg"

    def start(self) -> None:
        self.run(
            "router",
            self.command("smg"),
            *("launch", "--host", "127.0.0.1", "--port", str(self.port), "--backend", "openai"),
            *("--worker-urls", self.backend, "--policy", "round_robin", "--log-level", "error"),
        )
