"""Attacks on a running fleet, by who sends them.

An attack is a coroutine function that strikes once: it sends what it is named for and waits for what comes of it. It is
called again until its time is over. Being refused is no failure of an attack; an exception of its own is one.
"""

import dataclasses
from collections.abc import Awaitable, Callable, Iterator

from tests.harness.http import Address


@dataclasses.dataclass(frozen=True)
class Target:
    """Where the fleet is reached, and with which secret."""

    gateway: Address
    host: Address
    relay: Address
    token: str
    """A worker's, for who has joined the fleet and means ill."""


Attack = Callable[[Target], Awaitable[None]]


class Subject:
    """The attacks of one kind of sender; decorate each with it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._attacks: dict[str, Attack] = {}

    def __call__(self, attack: Attack) -> Attack:
        self.add(getattr(attack, "__name__", ""), attack)
        return attack

    def add(self, name: str, attack: Attack) -> None:
        """Add what is made from a table."""
        assert name, "an attack has a name"
        self._attacks[f"{self.name}.{name}"] = attack

    def __iter__(self) -> Iterator[tuple[str, Attack]]:
        return iter(self._attacks.items())
