"""Chooses the worker for a request: the least loaded of those that serve the model and have room."""

import random
from collections.abc import Collection, Iterable

from gateway.routing.directory import CHAT, Worker


def choose(
    workers: Iterable[Worker],
    model: str,
    avoid: Collection[str] = (),
    endpoint: str = CHAT,
    failing: Collection[str] = (),
    rng: random.Random | None = None,
) -> Worker | None:
    """The worker with the smallest share of its places in use, at random among equals; None if none has room.

    Workers that share a model's server differ only by their own places.

    ``workers`` are the ready ones. Those in ``failing`` are chosen only if no other serves the model, and those in
    ``avoid`` only if these are all.
    """
    serving = [worker for worker in workers if worker.serves(model, endpoint)]
    untried = [worker for worker in serving if worker.id not in avoid] or serving
    preferred = [worker for worker in untried if worker.id not in failing] or untried
    shares = [(worker.share(model), worker) for worker in preferred if worker.has_room_for(model)]
    if not shares:
        return None
    least = min(share for share, _ in shares)
    return (rng or random).choice([worker for share, worker in shares if share == least])
