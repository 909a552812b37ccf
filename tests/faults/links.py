"""The connection of one member to the host, to be broken without touching the member, the host or anybody else."""

import contextlib
from collections.abc import Iterator

from tests.harness.process import Process
from tests.proxy import Address, Proxy


class Detour(Proxy):
    """A proxy whose next connections can be led elsewhere."""

    def redirect(self, target: Address) -> None:
        """Pass connections that are dialled from now on to ``target``; those that are open stay."""
        self._target = target


class Wire:
    """Where one connection of a member runs: the host's ``port``, as dialled at ``address``."""

    def __init__(self, address: str, port: int) -> None:
        self._host: Address = ("127.0.0.1", port)
        self.near = Detour(self._host, (address, port))
        self.far = Proxy(self._host)
        self.near.redirect(("", 0))

    @contextlib.contextmanager
    def laid(self) -> Iterator[None]:
        with self.far, self.near:
            self.near.redirect(self.far.address)
            yield

    def swallow(self) -> None:
        self.far.hold()
        self.near.redirect(self._host)


class Cable:
    """Where one member's two connections to the host run.

    The member dials another loopback address than the host's, because the port of the relay is the host's own.
    """

    def __init__(self, address: str, host_port: int, relay_port: int) -> None:
        self._address = f"{address}:{host_port}"
        self.wires = [Wire(address, host_port), Wire(address, relay_port)]
        """To the host's port and to its relay's."""

    @contextlib.contextmanager
    def laid(self) -> Iterator[str]:
        """Carry connections; gives the address to dial."""
        with contextlib.ExitStack() as stack:
            for wire in self.wires:
                stack.enter_context(wire.laid())
            yield self._address

    @property
    def connections(self) -> int:
        """How many of the member's are open."""
        return sum(wire.near.connections for wire in self.wires)

    def sever(self) -> None:
        """Reset both connections on both sides. The next ones pass."""
        for wire in self.wires:
            wire.near.sever()

    @contextlib.contextmanager
    def severed(self) -> Iterator[None]:
        """Reset both connections on both sides, and the next ones, until the context is left."""
        for wire in self.wires:
            wire.near.refuse()
        self.sever()
        try:
            yield
        finally:
            for wire in self.wires:
                wire.near.flow()

    def swallow(self) -> None:
        """Make both connections half-open until the test ends: nothing passes, not even an end. The next ones pass."""
        for wire in self.wires:
            wire.swallow()


def joins(member: Process) -> int:
    """How often a member has joined the host so far."""
    return member.log().count('event="joined the host"')
