"""What waits for this worker at the gateways, as they tell it: so each learns what waits at the others."""

import asyncio
from collections.abc import Mapping

LASTS = 3.0
"""Seconds; gateways tell it every second."""

GATEWAYS = 1000
NAMES = 1000
"""Most that are kept."""


class Demand:
    """By gateway: how many requests wait there for each name."""

    def __init__(self) -> None:
        self._told: dict[str, tuple[float, dict[str, int]]] = {}

    def hear(self, gateway_id: str, waiting: Mapping[str, int]) -> None:
        self._told.pop(gateway_id, None)
        if waiting:
            self._told[gateway_id] = asyncio.get_running_loop().time(), dict(list(waiting.items())[:NAMES])
        while len(self._told) > GATEWAYS:
            del self._told[next(iter(self._told))]

    def of(self, name: str) -> dict[str, int]:
        """How many requests for ``name`` wait at each gateway."""
        now = asyncio.get_running_loop().time()
        found = {gateway: told[name] for gateway, (at, told) in self._told.items() if now - at < LASTS and name in told}
        return {gateway: count for gateway, count in found.items() if count}
