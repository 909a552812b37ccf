"""A member as the host knows it: its gRPC stream, its relay, and what it is."""

import asyncio
import hashlib
import hmac
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping, Set
from dataclasses import dataclass

import grpc
from autogen_ext.runtimes.grpc.protos import agent_worker_pb2, cloudevent_pb2

from fleet import logs
from fleet.bus import relay
from fleet.bus.link import MESSAGE_BYTES
from host import roles
from host.member_relay import WAITING, MemberRelay
from host.roles import Rights
from host.subscription import Subscription

log = logs.logger(__name__)

LINGER = 10.0
"""Seconds that a member has to read what was queued for it before its stream was closed."""

Routes = Mapping[Rights, dict[bytes, list["Member"]]]
"""The members that get what is published to a topic, by the sender's rights. A topic that these forbid is not there."""

_Message = agent_worker_pb2.Message
_End = None


@dataclass(frozen=True)
class Callbacks:
    """What a member's stream needs of the host."""

    published: Callable[["Member", cloudevent_pb2.CloudEvent], None]
    closing: Callable[["Member"], None]
    drop: Callable[[str], None]
    """Cuts the connection of one of gRPC's peers."""


class Member:
    """One member's stream. Iterating gives what to send to it, until it is closed.

    It has 19 attributes because it is both a row of the registry and the stream, which live and end as one.
    """

    def __init__(
        self,
        messages: AsyncIterator[_Message],
        may_be: Set[str],
        key: str,
        peer: str,
        routes: Routes,
        callbacks: Callbacks,
    ) -> None:
        self.heard_at = time.monotonic()
        """When something last came by gRPC."""
        self.ticket = secrets.token_urlsafe(24)
        """What its relay must show, once."""
        self.relay: MemberRelay | None = None
        self.may_be = may_be
        """The roles that it may choose from, by what it showed."""
        self.rights: Rights = roles.OTHER if may_be >= roles.ANY else roles.NOTHING
        self.id = ""
        self.stamp = b""
        """What the host puts in front of each of its messages: its id."""
        self.routes = routes[self.rights]
        self.types: set[str] = set()
        self.subscriptions: dict[str, Subscription] = {}
        self._key = hashlib.sha256(key.encode()).digest() if key else b""
        self._routes = routes
        self._callbacks = callbacks
        self._outgoing: asyncio.Queue[_Message | None] = asyncio.Queue()
        self._waiting = 0
        """Bytes in ``_outgoing``."""
        self._closed = False
        self._peer = peer
        self._expiry: asyncio.TimerHandle | None = None
        self._receiving = asyncio.create_task(self._receive(messages))
        self._receiving.add_done_callback(self._received)

    def become(self, rights: Rights, member_id: str) -> None:
        """Have these rights from now on."""
        self.rights, self.id = rights, member_id
        self.routes = self._routes[rights]
        self.stamp = relay.stamp(member_id) if member_id else b""

    def is_same(self, other: "Member") -> bool:
        """Whether both showed the same key, which only one process knows."""
        return bool(self._key) and hmac.compare_digest(self._key, other._key)

    @property
    def last_heard(self) -> float:
        """When something last came, by either connection: monotonic seconds."""
        return max(self.heard_at, self.relay.heard_at) if self.relay is not None else self.heard_at

    async def _receive(self, messages: AsyncIterator[_Message]) -> None:
        try:
            async for message in messages:
                self.heard_at = time.monotonic()
                if message.WhichOneof("message") == "cloudEvent":  # nothing else is sent in the fleet
                    self._callbacks.published(self, message.cloudEvent)
        finally:
            self.close()

    def _received(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, grpc.RpcError):
            log.error("a member's stream failed", member=self.id or "unknown", exc_info=error)

    def __aiter__(self) -> AsyncIterator[_Message]:
        return self

    async def __anext__(self) -> _Message:
        message = await self._outgoing.get()
        if message is _End:
            raise StopAsyncIteration
        self._waiting -= message.ByteSize()
        return message

    def send(self, frame: bytes | None, message: _Message) -> None:
        """Send an event as a frame, where there is one and the member has its relay, or as a message."""
        if self.relay is not None and frame is not None:
            self.relay.send(frame)
        else:
            self.put(message)

    def put(self, message: _Message) -> None:
        """Queue a message. The member is dropped when more than :data:`WAITING` bytes wait for it."""
        size = message.ByteSize()
        if self._closed or size > MESSAGE_BYTES:  # which would end the stream
            return
        self._waiting += size
        if self._waiting > WAITING:
            log.warning("dropped a member that reads nothing", waiting=WAITING)
            self.drop()
        else:
            self._outgoing.put_nowait(message)

    def close(self) -> None:
        """End the stream after what is queued, and the relay with it. The member has :data:`LINGER` seconds to read."""
        self._closed = True
        self._outgoing.put_nowait(_End)
        self._callbacks.closing(self)
        if self.relay is not None:
            self.relay.close()
        if self._expiry is None:
            self._expiry = asyncio.get_running_loop().call_later(LINGER, self.drop)

    def drop(self) -> None:
        """End the stream now; what is queued is lost."""
        self._outgoing = asyncio.Queue()
        self._waiting = 0
        self.close()
        # A stream that waits for its reader cannot be told of its end, and gRPC keeps what it was given last.
        self._callbacks.drop(self._peer)

    async def ended(self) -> None:
        """Receive nothing more, and return when nothing of the member runs."""
        if self._expiry is not None:
            self._expiry.cancel()
        self._receiving.cancel()
        await asyncio.wait({self._receiving})
