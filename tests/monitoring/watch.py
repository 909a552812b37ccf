"""A real Prometheus that watches a fleet by the files of deploy/monitoring, only faster: a minute is a second."""

import urllib.parse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from monitoring.alerts import ALERTS
from monitoring.files import MONITORING
from monitoring.rules import groups
from tests.harness.fleet import START, Address, fetch
from tests.harness.ports import free_port
from tests.harness.process import Process
from tests.harness.waiting import wait_until

PACE = 60
INTERVAL = "500ms"


class Prometheus(Process):
    """``targets`` are the addresses of each job; ``key`` is what the gateways are asked with."""

    def __init__(self, command: str, folder: Path, targets: Mapping[str, Sequence[Address]], key: str) -> None:
        super().__init__("prometheus", "", folder, {})
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._targets = targets
        (folder / "alerts.yml").write_text(yaml.safe_dump(groups(ALERTS, PACE)))
        (folder / "prometheus.yml").write_text(yaml.safe_dump(self._configuration(key)))
        self._command = [
            command,
            f"--config.file={folder}/prometheus.yml",
            f"--storage.tsdb.path={folder}/metrics",
            f"--web.listen-address=127.0.0.1:{port}",
            "--log.level=warn",
        ]

    def _configuration(self, key: str) -> dict[str, Any]:
        """That of the compose profile, for processes on this machine."""
        configuration: dict[str, Any] = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
        configuration["global"] |= {"scrape_interval": INTERVAL, "scrape_timeout": INTERVAL}
        configuration["global"]["evaluation_interval"] = INTERVAL
        for job in configuration["scrape_configs"]:
            if job.pop("dns_sd_configs", None):
                addresses = [f"{host}:{port}" for host, port in self._targets[job["job_name"].rpartition("-")[2]]]
                job["static_configs"] = [{"targets": addresses}]
        configuration["scrape_configs"][0]["authorization"] = {"credentials": key}
        return configuration

    def start(self) -> None:
        super().start()
        wait_until(self._is_ready, START, "Prometheus answers")

    def _is_ready(self) -> bool:
        try:
            return fetch(f"{self.url}/api/v1/query?query=1")[0] == 200
        except ValueError:  # it is not ready, and says so in a word
            return False

    def query(self, expr: str) -> list[dict[str, Any]]:
        """The series of an instant query."""
        answer = fetch(f"{self.url}/api/v1/query?query={urllib.parse.quote(expr)}")[1]
        assert answer["status"] == "success", answer
        found: list[dict[str, Any]] = answer["data"]["result"]
        return found

    def value(self, expr: str) -> float | None:
        found = self.query(expr)
        return float(found[0]["value"][1]) if found else None

    def firing(self) -> dict[str, list[dict[str, str]]]:
        """The alerts that fire now, each with the labels of every time that it does."""
        alerts: dict[str, list[dict[str, str]]] = {}
        for alert in fetch(f"{self.url}/api/v1/alerts")[1]["data"]["alerts"]:
            if alert["state"] == "firing":
                alerts.setdefault(alert["labels"]["alertname"], []).append(alert["labels"])
        return alerts
