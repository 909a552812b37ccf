"""Tells every gateway what this worker serves and how busy it is."""

import asyncio
from collections.abc import Callable

from protos import chat_pb2 as pb
from worker.serving.registry import Desk

EVERY = 1.0
"""Seconds between two statuses; design §4."""


class Heartbeat:
    """Publishes a ``WorkerStatus`` every second, and at once when told to."""

    def __init__(self, worker_id: str, version: str, desk: Desk, publish: Callable[[pb.WorkerStatus], None]) -> None:
        self._worker_id = worker_id
        self._version = version
        self._desk = desk
        self._publish = publish

    def beat(self) -> None:
        """Publish the status now."""
        self._publish(self._status(pb.WORKER_STATE_DRAINING if self._desk.draining else pb.WORKER_STATE_READY))

    def leave(self) -> None:
        """Publish the last status."""
        self._publish(self._status(pb.WORKER_STATE_LEFT))

    async def run(self) -> None:
        """Beat for ever."""
        while True:
            self.beat()
            await asyncio.sleep(EVERY)

    def _status(self, state: pb.WorkerState) -> pb.WorkerStatus:
        return pb.WorkerStatus(
            worker_id=self._worker_id,
            models=list(self._desk.models),
            capacity=self._desk.capacity,
            active=self._desk.active,
            state=state,
            version=self._version,
            active_by_gateway=self._desk.active_by_gateway(),
            started_total=self._desk.started_total,
        )
