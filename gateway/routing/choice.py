"""Which worker gets a request: the least loaded, among those that are ready, serve the model and have room."""

import random
from collections.abc import Collection, Iterable

from gateway.routing.directory import Worker


def choose(
    workers: Iterable[Worker], model: str, avoid: Collection[str] = (), rng: random.Random | None = None
) -> Worker | None:
    """The worker with the smallest share of its capacity in use; equals by lot; None when nobody has room.

    ``workers`` are the ready ones. Those in ``avoid``, which failed before, are taken only when nobody else serves
    the model.
    """
    serving = [worker for worker in workers if worker.serves(model)]
    preferred = [worker for worker in serving if worker.id not in avoid] or serving
    with_room = [worker for worker in preferred if worker.has_room]
    if not with_room:
        return None
    least = min(worker.load / worker.capacity for worker in with_room)
    return (rng or random).choice([worker for worker in with_room if worker.load / worker.capacity == least])
