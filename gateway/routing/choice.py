"""Chooses the worker for a request: the least loaded of those that serve the model and have room."""

import random
from collections.abc import Collection, Iterable

from gateway.routing.directory import CHAT, Worker


def choose(
    workers: Iterable[Worker],
    model: str,
    avoid: Collection[str] = (),
    endpoint: str = CHAT,
    rng: random.Random | None = None,
) -> Worker | None:
    """The worker with the smallest share of its capacity in use, at random among equals; None if none has room.

    ``workers`` are the ready ones. Those in ``avoid`` are chosen only if no other serves the model.
    """
    serving = [worker for worker in workers if worker.serves(model, endpoint)]
    preferred = [worker for worker in serving if worker.id not in avoid] or serving
    with_room = [worker for worker in preferred if worker.has_room]
    if not with_room:
        return None
    least = min(worker.load / worker.capacity for worker in with_room)
    return (rng or random).choice([worker for worker in with_room if worker.load / worker.capacity == least])
