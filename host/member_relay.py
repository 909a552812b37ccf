"""The host's end of a member's relay: see :mod:`fleet.bus.relay`."""

import asyncio
import ssl
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol, cast

from fleet import logs
from fleet.bus.link import KEEPALIVE_TIME, KEEPALIVE_TIMEOUT, MESSAGE_BYTES
from fleet.bus.relay import FIRST_BYTES, GO, PONG, Frames

log = logs.logger(__name__)

WAITING = 64 * 1024 * 1024
"""Bytes that may wait for a member to read them. The lanes' windows stay far below for any member that reads at all."""


class Member(Protocol):
    """Whom a ticket was given to."""

    relay: "MemberEnd | None"
    heard_at: float

    @property
    def last_heard(self) -> float:
        """When something last came, on either way: monotonic seconds."""

    def close(self) -> None:
        """End the member's gRPC stream."""


class MemberEnd(Frames):
    """One member's relay, from its ticket on.

    ``context`` is for TLS, if there is any, ``admit`` gives the member of a ticket, ``route`` takes it and its events.
    A connection without a valid ticket is dropped after ``patience`` seconds, and before anything else of it is read.
    """

    def __init__(
        self,
        context: Callable[[], ssl.SSLContext] | None,
        admit: Callable[[str], Member | None],
        route: Callable[[Any, bytes], None],
        patience: float,
    ) -> None:
        super().__init__(FIRST_BYTES, KEEPALIVE_TIME, KEEPALIVE_TIMEOUT)
        self._context = context
        self._admit = admit
        self._route = route
        self._patience = patience
        self._member: Member | None = None
        self._expiry: asyncio.TimerHandle | None = None
        self._greeting: asyncio.Task[None] | None = None
        self._encrypts = False
        """Whether TLS has begun."""
        self._open = context is None
        """Whether ``transport`` is the one on which frames pass."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.transport.set_write_buffer_limits(WAITING)
        loop = asyncio.get_running_loop()
        self._expiry = loop.call_later(self._patience, self._give_up)
        if self._context is None:
            self.send(GO)
        else:
            self._greeting = loop.create_task(self._begin_tls(self._context()))

    def data_received(self, data: bytes) -> None:
        if self._open:
            super().data_received(data)
        elif self._encrypts:
            self._rest += data  # asyncio passes on what came with the handshake's end before it tells of that end
        else:
            self.transport.abort()  # nobody has shown a certificate yet

    def ping_received(self) -> None:
        if self._member is None:
            self.transport.abort()  # the pongs would pile up here for a stranger who reads none
        else:
            super().ping_received()

    def pong_received(self) -> None:
        if self._member is None:
            self.transport.abort()  # the ticket comes first

    def frame_received(self, frame: bytes) -> None:
        member = self._admit(frame[4:].decode("ascii", "replace"))
        if member is None:
            self.transport.abort()
            return
        self._met()
        self.limit = MESSAGE_BYTES
        self._member = member
        self.frame_received = partial(self._route, member)  # type: ignore[method-assign]  # a call less for each batch
        member.relay = self
        self.send(PONG)
        self.watch()

    def pause_writing(self) -> None:
        log.warning("dropped a member that reads nothing", waiting=WAITING)
        self.transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self._met()
        if self._greeting is not None:
            self._greeting.cancel()
        if self._member is not None:
            self._member.heard_at = self._member.last_heard
            self._member.relay = None
            self._member.close()  # what it sent last may be lost, and only a new link tells it so

    def _give_up(self) -> None:
        self.transport.abort()
        if self._greeting is not None:  # a connection that is lost within its handshake is lost without a call
            self._greeting.cancel()

    def _met(self) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None

    async def _begin_tls(self, context: ssl.SSLContext) -> None:
        try:
            self.send(GO)
            self._encrypts = True
            tls = await asyncio.get_running_loop().start_tls(self.transport, self, context, server_side=True)
        except OSError as error:
            log.debug("a relay was not begun", reason=str(error))
            self._met()
            self.transport.abort()
            return
        self.transport = cast("asyncio.Transport", tls)
        self.transport.set_write_buffer_limits(WAITING)
        self._open = True
        self.data_received(b"")  # what came meanwhile
