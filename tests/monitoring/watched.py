"""A fleet under a real Prometheus: two gateways, and workers of which each has something that can be broken alone."""

import contextlib
import copy
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from identities.authority import Authority
from tests.faults.links import Cable
from tests.harness.fleet import Address, Backend, Fleet, model_entries
from tests.harness.waiting import wait_until
from tests.monitoring.watch import Prometheus

KEY = "a-key-of-the-tests-prometheus"
START = 90.0
"""Seconds in which all must be there, on a machine with two cores that others use too."""
CABLE = "127.0.0.2"

SETTINGS = {"GATEWAY_QUEUE_LIMIT": "5", "GATEWAY_QUEUE_TIMEOUT": "60", "GATEWAY_STALL_TIMEOUT": "1"}

SHARED = ("test", "slow", "narrow", "sick")
SERVED = (SHARED, SHARED, ("wired",), ("heavy",))
"""What each worker serves. `narrow` takes one run at once, `sick` has a server of its own; the links of the worker of
`wired` run over the cable."""


class Watched:
    def __init__(self, command: str, folder: Path) -> None:
        self.folder = folder
        self.authority = Authority(folder)
        self.authority.update(host_names=[CABLE])
        self.fleet = fleet = Fleet(0, SETTINGS, start=False, identities=folder, watched=True)
        fleet.expects_trouble = True
        self.keys = fleet.folder / "keys.yaml"
        entry = {"name": "prometheus", "sha256": hashlib.sha256(KEY.encode()).hexdigest()}
        self.keys.write_text(yaml.safe_dump({"keys": [entry]}))
        fleet.new_gateway(GATEWAY_KEYS=str(self.keys))
        self.cable = Cable(CABLE, fleet.host_port, fleet.relay_port)
        self.sick = Backend(fleet.folder)
        self.sick.process.log_file = fleet.folder / "sick.log"
        for names in SERVED:
            self._add_worker(names)
        targets = {
            "gateway": fleet.addresses,
            "worker": [address for name, address in fleet.health.items() if name != "host"],
            "host": [fleet.health["host"]],
        }
        self.prometheus = Prometheus(command, fleet.folder, targets, KEY)

    def _add_worker(self, names: tuple[str, ...]) -> None:
        number = len(self.fleet.workers)
        models = self.fleet.folder / f"served-{number}.yaml"
        models.write_text(yaml.safe_dump({"models": {name: self._entry(name) for name in names}}))
        host = {"FLEET_HOST": f"{CABLE}:{self.fleet.host_port}"} if names == ("wired",) else {}
        self.fleet.new_worker(WORKER_MODELS=str(models), **host)

    def _entry(self, name: str) -> dict[str, Any]:
        server = self.sick if name == "sick" else self.fleet.backend
        entry: dict[str, Any] = copy.deepcopy(model_entries(server.url, name)["models"]["test"])
        if name == "narrow":
            entry["concurrency"] = 1
        return entry

    @property
    def address(self) -> Address:
        """Where the gateway that needs no key listens."""
        return self.fleet.address

    def is_whole(self) -> bool:
        return self.prometheus.value('min(chatfleet_workers{state="ready"})') == len(SERVED)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        with self.cable.laid(), self.fleet:
            self.sick.start()
            self.fleet.start()
            self.prometheus.start()
            try:
                wait_until(self.is_whole, START, "both gateways know all workers, and Prometheus knows it")
                wait_until(lambda: not self.prometheus.firing(), START, "what fired as they started has ended")
                yield
            finally:
                self.prometheus.end()
                self.sick.process.end()
