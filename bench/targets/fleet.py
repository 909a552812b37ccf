"""Our fleet: host, workers and gateways as ``make run`` starts them, with default settings.

It can be started from a checkout of another commit, in the same environment, to compare the two in one run.
"""

import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import yaml

from bench.frames import MODEL
from bench.processes import REPOSITORY, free_port
from bench.targets.target import Target, answers


class Fleet(Target):
    name = "chatfleet"
    has_metrics = False
    """Whether hosts and workers have metrics too; gateways always do."""

    def __init__(self, backend: int, workers: int = 2, gateways: int = 1, checkout: Path = REPOSITORY) -> None:
        super().__init__(backend)
        self.tree = checkout.resolve()
        self.workers = workers
        self._gateways = gateways
        self._ports: list[int] = []
        self.settings: dict[str, str] = {}
        """Of every process."""

    @property
    def ports(self) -> list[int]:
        return self._ports

    def start(self) -> None:
        self._ports = [self.port, *(free_port() for _ in range(self._gateways - 1))]
        host = f"127.0.0.1:{free_port()}"
        models = self.folder / "models.yaml"
        models.write_text(yaml.safe_dump(self._models()))
        self._module("host", HOST_BIND=host, HOST_RELAY_BIND=f"127.0.0.1:{free_port()}", **self._health("HOST"))
        for _ in range(self.workers):
            self._module("worker", FLEET_HOST=host, WORKER_MODELS=str(models), **self._health("WORKER"))
        for port in self.ports:
            self._module("gateway", FLEET_HOST=host, GATEWAY_BIND=f"127.0.0.1:{port}")

    def is_ready(self) -> bool:
        for port in self.ports:
            url = f"http://127.0.0.1:{port}"
            if answers(f"{url}/readyz") is None:
                return False
            status = json.loads(answers(f"{url}/fleet") or b"{}")
            if sum(worker["state"] == "READY" for worker in status.get("workers", ())) < self.workers:
                return False
        return True

    def version(self) -> str:
        project = tomllib.loads((self.tree / "pyproject.toml").read_text())["project"]
        commit = f" at {self._commit()}" if self.tree != REPOSITORY else ""
        return f"{project['version']}{commit}, {self.workers} workers"

    def _commit(self) -> str:
        command = ["git", "-C", str(self.tree), "rev-parse", "--short", "HEAD"]
        found = subprocess.run(command, capture_output=True, text=True)
        return found.stdout.strip() or "an unknown commit"

    def _module(self, name: str, **settings: str) -> None:
        self.run(name, sys.executable, "-m", name, **self.settings, **settings)

    def _health(self, prefix: str) -> dict[str, str]:
        return {f"{prefix}_HEALTH_BIND": f"127.0.0.1:{free_port()}"} if self.has_metrics else {}

    def _models(self) -> dict[str, Any]:
        info = dict.fromkeys(("vision", "json_output", "structured_output"), False) | {"function_calling": True}
        config = {
            "model": MODEL,
            "base_url": f"{self.backend}/v1",
            "api_key": "none",
            "model_info": {**info, "multiple_system_messages": True, "family": "unknown"},
        }
        provider = "autogen_ext.models.openai.OpenAIChatCompletionClient"
        return {"models": {MODEL: {"provider": provider, "config": config}}}
