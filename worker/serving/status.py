"""Reports to every gateway what this worker serves and how busy it is."""

import asyncio
from collections.abc import Callable, Mapping, Sequence

from protos import chat_pb2 as pb
from worker.serving.registry import Registry

INTERVAL = 1.0
"""Seconds between two statuses."""


class Heartbeat:
    """Publishes a ``WorkerStatus`` every ``interval`` seconds, and whenever :meth:`beat` is called.

    ``endpoints`` has those of the models that have others than chat.
    """

    def __init__(
        self,
        worker_id: str,
        version: str,
        registry: Registry,
        publish: Callable[[pb.WorkerStatus], None],
        interval: float = INTERVAL,
        endpoints: Mapping[str, Sequence[str]] = {},
    ) -> None:
        self._worker_id = worker_id
        self._version = version
        self._registry = registry
        self._publish = publish
        self._interval = interval
        self._endpoints = {model: pb.Endpoints(names=names) for model, names in endpoints.items()}

    def beat(self) -> None:
        self._publish(self._status(pb.WORKER_STATE_DRAINING if self._registry.draining else pb.WORKER_STATE_READY))

    def leave(self) -> None:
        self._publish(self._status(pb.WORKER_STATE_LEFT))

    async def run(self) -> None:
        while True:
            self.beat()
            await asyncio.sleep(self._interval)

    def _status(self, state: pb.WorkerState) -> pb.WorkerStatus:
        return pb.WorkerStatus(
            worker_id=self._worker_id,
            models=list(self._registry.services),
            capacity=self._registry.capacity,
            active=self._registry.active,
            state=state,
            version=self._version,
            active_by_gateway=self._registry.active_by_gateway(),
            started_total=self._registry.started_total,
            routes=[route.fingerprint for route in self._registry.routes.values()],
            endpoints=self._endpoints,
        )
