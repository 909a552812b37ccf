"""The host alone, under members that only send and acknowledge batches: see :mod:`bench.bus`."""

import json
import sys

from bench.processes import Process, free_port, wait_until
from bench.targets.target import Target

LANES = 8


class Bus(Target):
    name = "host"
    speaks_http = False

    def __init__(self, backend: int, chunks: int) -> None:
        super().__init__(backend)
        self._chunks = chunks

    def start(self) -> None:
        host = f"127.0.0.1:{free_port()}"
        relay = f"127.0.0.1:{free_port()}"
        self.run("host", sys.executable, "-m", "host", HOST_BIND=host, HOST_RELAY_BIND=relay)
        self._gateways = self._members("gateway", host)
        wait_until(lambda: self._counts(), 30, "the bus has gateways")
        self._members("worker", host)

    def _members(self, role: str, host: str) -> Process:
        return self.run(role, sys.executable, "-m", "bench.bus", role, host, str(LANES), str(self._chunks))

    def is_ready(self) -> bool:
        return any(count for _, count in self._counts())

    def _counts(self) -> list[tuple[float, int]]:
        lines = self._gateways.log().splitlines()[1:]  # the first one may be incomplete
        return [tuple(json.loads(line)) for line in lines if line.startswith("[") and line.endswith("]")]

    def batches_per_second(self, begin: float, end: float) -> float:
        """The rate of arrivals between two moments, which must be recent."""
        counts = [(at, count) for at, count in self._counts() if begin <= at <= end]
        (first, low), (last, high) = counts[0], counts[-1]
        return (high - low) / (last - first)

    def version(self) -> str:
        return f"batches of {self._chunks} chunks"
