"""The host's end of a member's relay: see :mod:`fleet.bus.relay`."""

import asyncio
from collections.abc import Callable
from functools import partial

from fleet import logs
from fleet.bus.link import KEEPALIVE_TIME, KEEPALIVE_TIMEOUT, MESSAGE_BYTES
from fleet.bus.relay import FIRST_BYTES, PONG, Relay
from host.backlog import WAITING
from host.member import Member

log = logs.logger(__name__)


PINGS = 100
"""Pings that a member may send within a second. It needs one. Each leaves a pong that the member may not read."""


class MemberRelay(Relay):
    """One member's relay. The first frame must be a ticket: ``admit`` returns its member, None for an unknown ticket.

    Everything else ends the connection before that. ``route`` gets the member and its events.
    """

    def __init__(self, admit: Callable[[str], Member | None], route: Callable[[Member, bytes], None]) -> None:
        super().__init__(self._ticket_received, FIRST_BYTES, KEEPALIVE_TIME, KEEPALIVE_TIMEOUT)
        self._admit = admit
        self._route = route
        self._member: Member | None = None
        self._pings = 0
        self._pinged_at = 0.0
        """When the first of ``_pings`` came."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.transport.set_write_buffer_limits(WAITING)

    def ping_received(self) -> None:
        if self.heard_at - self._pinged_at > 1:
            self._pings, self._pinged_at = 0, self.heard_at
        self._pings += 1
        if self._member is None or self._pings > PINGS:
            self.transport.abort()
        else:
            super().ping_received()

    def pong_received(self) -> None:
        if self._member is None:
            self.transport.abort()
        else:
            super().pong_received()

    def _ticket_received(self, frame: bytes) -> None:
        member = self._admit(frame[4:].decode("ascii", "replace"))
        if member is None:
            self.transport.abort()
            return
        self.limit = MESSAGE_BYTES
        self.received = partial(self._route, member)
        self._member = member
        member.relay = self
        self.send(PONG)
        self.watch()

    def pause_writing(self) -> None:
        member = self._member.name if self._member is not None else "unknown"
        log.warning("dropped a member that reads nothing", member=member, waiting=WAITING)
        self.transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        if self._member is not None:
            self._member.heard_at = self._member.last_heard
            self._member.relay = None
            self._member.close()  # what it sent last may be lost, and only a new link tells it so
