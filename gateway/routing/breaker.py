"""Circuit breakers of workers that do not do what a gateway tells them. How its models do, a worker says itself."""

from fleet.process.breaker import Breaker


class Breakers:
    """One breaker for each worker that has failed since its last success. ``now`` is in seconds."""

    def __init__(self) -> None:
        self._breakers: dict[str, Breaker] = {}

    def __len__(self) -> int:
        return len(self._breakers)

    def blocks(self, worker_id: str, now: float) -> bool:
        breaker = self._breakers.get(worker_id)
        return breaker is not None and breaker.blocks(now)

    def chosen(self, worker_id: str, now: float) -> None:
        if breaker := self._breakers.get(worker_id):
            breaker.chosen(now)

    def failed(self, worker_id: str, now: float) -> None:
        self._breakers.setdefault(worker_id, Breaker()).failed(now)

    def abandoned(self, worker_id: str, now: float) -> None:
        if breaker := self._breakers.get(worker_id):
            breaker.abandoned(now)

    def succeeded(self, worker_id: str) -> None:
        self._breakers.pop(worker_id, None)

    forget = succeeded
