"""A member as the host knows it: what it is and may do, and what waits for it."""

import asyncio
import hashlib
import hmac
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping, Set
from typing import NamedTuple, Self

from autogen_ext.runtimes.grpc.protos import agent_worker_pb2

from fleet import logs
from fleet.bus import relay
from fleet.bus.link import MESSAGE_BYTES
from fleet.bus.relay import Relay
from fleet.security.tokens import OTHERS
from host import roles
from host.backlog import WAITING, Backlog
from host.roles import Rights

log = logs.logger(__name__)

LINGER = 10.0
"""Seconds that a member has to read what was queued for it before its stream was closed."""

Routes = Mapping[Rights, dict[bytes, list["Member"]]]
"""The members that get what is published to a topic, by the sender's rights. A topic that these forbid is not there."""

_Message = agent_worker_pb2.Message


class Subscription(NamedTuple):
    """What a member listens to: one topic, or all that begin with it."""

    topic: str
    is_prefix: bool
    agent_type: str

    @classmethod
    def parse(cls, message: agent_worker_pb2.Subscription) -> Self:
        """Raises ``ValueError``."""
        match message.WhichOneof("subscription"):
            case "typeSubscription":
                return cls(message.typeSubscription.topic_type, False, message.typeSubscription.agent_type)
            case "typePrefixSubscription":
                prefix = message.typePrefixSubscription
                return cls(prefix.topic_type_prefix, True, prefix.agent_type)
        raise ValueError("the subscription is of no known kind")

    def message(self, id_: str) -> agent_worker_pb2.Subscription:
        message = agent_worker_pb2.Subscription(id=id_)
        if self.is_prefix:
            message.typePrefixSubscription.topic_type_prefix = self.topic
            message.typePrefixSubscription.agent_type = self.agent_type
        else:
            message.typeSubscription.topic_type = self.topic
            message.typeSubscription.agent_type = self.agent_type
        return message


class Member:
    """A row of the registry, and what is sent by the member's gRPC stream: iterating gives it, until it is closed.

    ``cut`` ends the stream's connection from ``address``. It has 20 attributes because row and stream begin and end as
    one.
    """

    def __init__(
        self, may_be: Set[str], key: str, routes: Routes, cut: Callable[[], None], address: str = "unknown"
    ) -> None:
        self.heard_at = time.monotonic()
        """When something last came by gRPC."""
        self.ticket = secrets.token_urlsafe(24)
        """What its relay must show, once."""
        self.relay: Relay | None = None
        self.may_be = may_be
        """The roles that it may choose from, by what it showed."""
        self.rights: Rights = roles.OTHER if OTHERS in may_be else roles.NOTHING
        self.id = ""
        """Of the fleet's members; the others have none."""
        self.address = address
        self.was_seen = False
        """Whether it is in the log as one of the others."""
        self.stamp = b""
        """What the host puts in front of each of its messages: its id."""
        self.routes = routes[self.rights]
        self.types: set[str] = set()
        self.subscriptions: dict[str, Subscription] = {}
        """By id."""
        self.is_closed = False
        self._key = hashlib.sha256(key.encode()).digest() if key else b""
        self._routes = routes
        self._cut = cut
        self._backlog = Backlog()
        self._outgoing: asyncio.Queue[_Message | None] = asyncio.Queue()
        """None is the end."""
        self._queued = 0
        """Bytes in ``_outgoing``."""
        self._expiry: asyncio.TimerHandle | None = None

    def become(self, rights: Rights, member_id: str) -> None:
        self.rights, self.id = rights, member_id
        self.routes = self._routes[rights]
        self.stamp = relay.stamp(member_id) if member_id else b""

    def is_same(self, other: "Member") -> bool:
        """Whether both showed the same key, which only one process knows."""
        return bool(self._key) and hmac.compare_digest(self._key, other._key)

    @property
    def name(self) -> str:
        """For the log."""
        return self.id or self.address

    @property
    def last_heard(self) -> float:
        """When something last came, by either connection: monotonic seconds."""
        return max(self.heard_at, self.relay.heard_at) if self.relay is not None else self.heard_at

    @property
    def waiting(self) -> int:
        """Bytes that wait for it to read."""
        return self._queued + (self.relay.transport.get_write_buffer_size() if self.relay is not None else 0)

    # ------------------------------------------------------------ what is sent to it

    def has_room(self, sender: object, size: int) -> bool:
        """Whether another event of this many bytes may wait for it. If it reads nothing at all, it is dropped."""
        waiting = self.waiting
        if self._backlog.admits(sender, size, waiting):
            return True
        if self._backlog.is_stuck():
            self._drop_stuck(waiting)
        return False

    def put(self, message: _Message) -> None:
        """Send what :meth:`has_room`, or a short word of the host's own. Only a member's own requests make many."""
        size = message.ByteSize()
        if self.is_closed or size > MESSAGE_BYTES:  # which would end the stream
            return
        self._queued += size
        self._outgoing.put_nowait(message)
        if self._queued > WAITING:
            self._drop_stuck(self._queued)

    def _drop_stuck(self, waiting: int) -> None:
        if not self.is_closed:
            log.warning("dropped a member that reads nothing", member=self.name, waiting=waiting)
            self.drop()

    def __aiter__(self) -> AsyncIterator[_Message]:
        return self

    async def __anext__(self) -> _Message:
        message = await self._outgoing.get()
        if message is None:
            raise StopAsyncIteration
        self._queued -= message.ByteSize()
        return message

    # ------------------------------------------------------------ its end

    def close(self) -> None:
        """End the stream after what is queued, and the relay with it. The member has :data:`LINGER` seconds to read."""
        if self.is_closed:
            return
        self.is_closed = True
        self._outgoing.put_nowait(None)
        if self.relay is not None:
            self.relay.close()
        self._expiry = asyncio.get_running_loop().call_later(LINGER, self.drop)

    def drop(self) -> None:
        """End the stream now; what is queued is lost."""
        self.close()
        while not self._outgoing.empty():
            self._outgoing.get_nowait()
        self._queued = 0
        self._outgoing.put_nowait(None)
        if self.relay is not None:
            self.relay.transport.abort()
        # A stream that waits for its reader cannot be told of its end, and gRPC keeps what it was given last.
        self._cut()

    def ended(self) -> None:
        """The stream has ended. Nothing may be cut any more: the next connection may have the same port."""
        self.close()
        if self._expiry is not None:
            self._expiry.cancel()
