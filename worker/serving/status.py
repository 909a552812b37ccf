"""Reports to every gateway what this worker serves and how busy it is."""

import asyncio
from collections import Counter
from collections.abc import Callable

from protos import chat_pb2 as pb
from worker.services.endpoints import CHAT
from worker.serving.registry import Registry

INTERVAL = 1.0
"""Seconds between two statuses."""


class Heartbeat:
    """Publishes a ``WorkerStatus`` every ``interval`` seconds, and whenever :meth:`beat` is called."""

    def __init__(
        self,
        worker_id: str,
        version: str,
        registry: Registry,
        publish: Callable[[pb.WorkerStatus], None],
        interval: float = INTERVAL,
    ) -> None:
        self._worker_id = worker_id
        self._version = version
        self._registry = registry
        self._publish = publish
        self._interval = interval

    def beat(self) -> None:
        self._publish(self._status(pb.WORKER_STATE_DRAINING if self._registry.draining else pb.WORKER_STATE_READY))

    def leave(self) -> None:
        self._publish(self._status(pb.WORKER_STATE_LEFT))

    async def run(self) -> None:
        while True:
            self.beat()
            await asyncio.sleep(self._interval)

    def _status(self, state: pb.WorkerState) -> pb.WorkerStatus:
        offers, counts = self._registry.offers, self._registry.counts()
        return pb.WorkerStatus(
            worker_id=self._worker_id,
            models=list(offers),
            capacity=self._registry.capacity,
            active=self._registry.active,
            state=state,
            version=self._version,
            active_by_gateway=sum(counts.values(), Counter()),
            started_total=self._registry.started_total,
            routes=[offer.route.fingerprint for offer in offers.values()],
            endpoints={
                name: pb.Endpoints(names=offer.endpoints)
                for name, offer in offers.items()
                if offer.endpoints != (CHAT,)
            },
            failing=[failing for failing in self._registry.judge.failing() if failing.name in offers],
            details={
                name: pb.Details(
                    description=offer.description,
                    concurrency=offer.concurrency,
                    active_by_gateway=counts.get(name) if offer.concurrency else None,
                    server=offer.route.server if offer.concurrency else 0,
                )
                for name, offer in offers.items()
                if offer.description or offer.concurrency
            },
        )
