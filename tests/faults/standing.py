"""Fleets that stand for many scenarios: each finds its fleet whole, whatever the one before broke."""

import contextlib
import os
import re
import time
from collections.abc import Callable, Iterator
from typing import Self

from tests.harness.fleet import TROUBLE, Fleet
from tests.harness.process import Process, end_all

LONG = os.environ.get("CHATFLEET_LONG") == "1"
"""Whether scenarios take the time that an operator would give them."""

PATIENCE = 60.0
"""Seconds for a process to start and join, on a machine that others use too."""


class Standing:
    """Keeps one fleet for several scenarios."""

    def __init__(self, workers: int = 2, **settings: str) -> None:
        self.fleet = Fleet(workers, settings, start=False)
        self._members = self.fleet.processes

    def __enter__(self) -> Self:
        self.fleet.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self.fleet.__exit__(*exc)

    @contextlib.contextmanager
    def whole(self) -> Iterator[Fleet]:
        """The fleet with every first member alive and nobody else; afterwards what it complains about is a failure."""
        fleet = self.fleet
        self._mend()
        fleet.backend.forget()
        before = fleet.log_sizes()
        yield fleet
        for process in fleet.processes:
            log = process.log(before.get(process.name, 0))
            assert not TROUBLE.search(log), f"{process.name}:\n{log}"

    def _mend(self) -> None:
        self._dismiss([process for process in self.fleet.processes if process not in self._members])
        for member in self._members:
            if member.is_alive:
                member.thaw()
            elif member is self.fleet.backend.process:
                self.fleet.backend.start()
            else:
                member.start()
        settle(self._is_whole, "every member is there and nothing runs")

    def _is_whole(self) -> bool:
        fleet = self.fleet
        return fleet.readiness()[0] == 200 and len(fleet.ready_workers()) == len(fleet.workers) and fleet.is_idle()

    def _dismiss(self, guests: list[Process]) -> None:
        """End members that a scenario has added, and forget them with their logs."""
        end_all(guests)
        fleet = self.fleet
        fleet.workers[:] = [worker for worker in fleet.workers if worker not in guests]
        fleet.gateways[:] = [gateway for gateway in fleet.gateways if gateway not in guests]
        del fleet.addresses[len(fleet.gateways) :]
        for guest in guests:
            guest.log_file.unlink(missing_ok=True)


def settle(state: Callable[[], bool], what: str, within: float = PATIENCE) -> None:
    """Block until a state; ten times a second, so as to leave the machine to those that start."""
    deadline = time.monotonic() + within
    while not state():
        assert time.monotonic() < deadline, f"not within {within} s: {what}"
        time.sleep(0.1)


def member_id(process: Process) -> str:
    """The id under which a worker or a gateway is known in its present life, from its log."""
    ids = re.findall(r"event=(?:serving|listening) (?:worker|gateway)=(\S+)", process.log())
    return str(ids[-1])
