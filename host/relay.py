"""The host's end of a member's relay: see :mod:`fleet.relay`."""

import asyncio
import hmac
import ssl
from collections.abc import Callable
from typing import Protocol, cast

from fleet import logs
from fleet.link import KEEPALIVE_TIME, KEEPALIVE_TIMEOUT, MESSAGE_BYTES
from fleet.relay import FIRST_BYTES, GO, PONG, Frames
from fleet.security.identity import Identity, IdentityError

log = logs.logger(__name__)


class Member(Protocol):
    """Whom a ticket was given to."""

    ticket: str
    relay: "MemberEnd | None"
    heard_at: float

    @property
    def last_heard(self) -> float:
        """When something last came, on either way: monotonic seconds."""

    def close(self) -> None:
        """End the member's gRPC stream."""


class MemberEnd(Frames):
    """One member's relay, from its ticket on. ``find`` gives the member of a ticket, ``route`` takes its events.

    A connection without a valid ticket is dropped after ``patience`` seconds, and before anything else of it is read.
    """

    def __init__(
        self,
        identity: Identity | None,
        find: Callable[[str], Member | None],
        route: Callable[[bytes], None],
        patience: float,
    ) -> None:
        super().__init__(FIRST_BYTES, KEEPALIVE_TIME, KEEPALIVE_TIMEOUT)
        self._identity = identity
        self._find = find
        self._route = route
        self._patience = patience
        self._member: Member | None = None
        self._expiry: asyncio.TimerHandle | None = None
        self._greeting: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        loop = asyncio.get_running_loop()
        self._expiry = loop.call_later(self._patience, self.transport.abort)
        if self._identity is None:
            self.transport.write(GO)
        else:
            self._greeting = loop.create_task(self._begin_tls(self._identity))

    def frame_received(self, frame: bytes) -> None:
        if self._member is not None:
            self._route(frame)
            return
        member = self._find(frame[4:].decode("ascii", "replace"))
        if member is None or member.relay is not None:
            self.transport.abort()
            return
        self._met()
        self.limit = MESSAGE_BYTES
        self._member = member
        self.transport.write(PONG)
        member.relay = self

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self._met()
        if self._greeting is not None:
            self._greeting.cancel()
        if self._member is not None:
            self._member.heard_at = self._member.last_heard
            self._member.relay = None
            self._member.close()  # what it sent last may be lost, and only a new link tells it so

    def _met(self) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None

    async def _begin_tls(self, identity: Identity) -> None:
        try:
            context = identity.server_context()
            self.transport.write(GO)
            tls = await asyncio.get_running_loop().start_tls(self.transport, self, context, server_side=True)
        except (OSError, ssl.SSLError, IdentityError) as error:
            log.debug("a relay was not begun", reason=str(error))
            self.transport.abort()
            return
        self.transport = cast("asyncio.Transport", tls)


def same(ticket: str, given: str) -> bool:
    """Whether two tickets are the same; takes as long if they are not."""
    return hmac.compare_digest(ticket.encode(), given.encode())
