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


class Cable:
    """Where one member's connections to the host run."""

    def __init__(self, host_port: int) -> None:
        self._host: Address = ("127.0.0.1", host_port)
        self._near = Detour(self._host)
        self._far = Proxy(self._host)
        self._near.redirect(("", 0))

    @contextlib.contextmanager
    def laid(self) -> Iterator[str]:
        """Carry connections; gives the address to dial."""
        with self._far, self._near:
            self._near.redirect(self._far.address)
            yield "{}:{}".format(*self._near.address)

    def sever(self) -> None:
        """Reset the connection on both sides. The next one passes."""
        self._near.sever()

    def swallow(self) -> None:
        """Make the connection half-open for ever: nothing passes, not even its end. The next one passes."""
        self._far.hold()
        self._near.redirect(self._host)


def joins(member: Process) -> int:
    """How often a member has joined the host so far."""
    return member.log().count('event="joined the host"')
