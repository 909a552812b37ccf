"""Our fleet with all metrics and every request traced, and a collector of the spans, whose CPU is not counted."""

import sys

from bench.processes import Process, free_port
from bench.targets.fleet import Fleet


class Traced(Fleet):
    name = "chatfleet-traced"
    has_metrics = True

    def start(self) -> None:
        port = free_port()
        command = [sys.executable, "-m", "bench.collector", str(port)]
        self._collector = Process("collector", command, self.folder)
        self.settings = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
            "OTEL_TRACES_SAMPLER": "always_on",
        }
        super().start()

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        self._collector.stop()
