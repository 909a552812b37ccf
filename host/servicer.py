"""Routes events between members: who may publish and listen where, take-over of a lost link, and news of who left.

The gRPC service is AutoGen's; what is behind it is not. AutoGen makes a task per event, formats it into a log, trusts
every member with everything and loses the rest of a fan-out when a member is just gone. This handles events in the
order in which they arrive, refuses what a member's role does not allow, and skips who is gone. An event may come on
either of a member's two ways, gRPC or relay, and leaves on the relay of each member that has one.
"""

import asyncio
import hashlib
import hmac
import secrets
import time
from collections.abc import AsyncIterator, Callable, Set
from typing import Any, NamedTuple

import grpc
from autogen_core import TopicId
from autogen_ext.runtimes.grpc.protos import agent_worker_pb2, agent_worker_pb2_grpc, cloudevent_pb2

from fleet import logs
from fleet.bus import relay, topics
from fleet.bus.events import event, event_of, fits_a_frame, packed
from fleet.bus.link import CLIENT_ID, KEEPALIVE_TIME, MEMBER_KEY, MESSAGE_BYTES
from fleet.process.repeats import Repeats
from fleet.security.tokens import Tokens
from host import roles
from host.member_relay import WAITING, MemberEnd
from host.roles import Denied, Rights, Taken
from protos import chat_pb2 as pb

log = logs.logger(__name__)

SILENT_AFTER = KEEPALIVE_TIME
"""Seconds without a word after which a lost member counts as silent rather than closed: workers speak every second."""

LINGER = 10.0
"""Seconds that a member has to read what was queued for it before its stream was closed."""

ENTRIES = 100
"""Agent types, and subscriptions, that one member may have. The fleet's own have one and three."""

LONGEST = 1000
"""Characters of an agent type, a topic, and a subscription's id."""

SMALL = 64 * 1024
"""Bytes of a frame that is never too large."""

ROUTES = 10_000
"""Topics whose listeners are remembered: of more, those that subscribe to a prefix could make the host remember all."""

_Message = agent_worker_pb2.Message
_End = None


class Subscription(NamedTuple):
    """What one subscription of a member listens to: one topic, or all that begin so."""

    topic: str
    is_prefix: bool
    agent_type: str


class Connection:
    """One member's stream, and what the member is. Iterating gives what to send to it, until it is closed."""

    def __init__(
        self, messages: AsyncIterator[_Message], servicer: "Servicer", may_be: Set[str], key: str, peer: str
    ) -> None:
        self.heard_at = time.monotonic()
        """When something last came by gRPC."""
        self.ticket = secrets.token_urlsafe(24)
        """What its relay must show, once."""
        self.relay: MemberEnd | None = None
        self.may_be = may_be
        """The roles that it may choose from, by what it showed."""
        self.rights: Rights = roles.OTHER if may_be >= roles.ANY else roles.NOTHING
        self.member_id = ""
        self.stamp = b""
        """What the host puts in front of each of its messages: its member id."""
        self.routes = servicer.routes[self.rights]
        self.types: set[str] = set()
        self.subscriptions: dict[str, Subscription] = {}
        self._key = hashlib.sha256(key.encode()).digest() if key else b""
        self._servicer = servicer
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
        self.rights, self.member_id = rights, member_id
        self.routes = self._servicer.routes[rights]
        self.stamp = relay.stamp(member_id) if member_id else b""

    def is_same_member(self, other: "Connection") -> bool:
        """Whether both showed the same key, which only one process knows."""
        return bool(self._key) and hmac.compare_digest(self._key, other._key)

    async def _receive(self, messages: AsyncIterator[_Message]) -> None:
        try:
            async for message in messages:
                self.heard_at = time.monotonic()
                if message.WhichOneof("message") == "cloudEvent":  # nothing else is sent in the fleet
                    self._servicer.published(self, message.cloudEvent)
        finally:
            self.close()

    def _received(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, grpc.RpcError):
            log.error("a member's stream failed", member=self.member_id or "unknown", exc_info=error)

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
        """Queue a message for the member, which is dropped when more than :data:`WAITING` bytes wait for it."""
        size = message.ByteSize()
        if self._closed or size > MESSAGE_BYTES:  # which would end the stream
            return
        self._waiting += size
        if self._waiting > WAITING:
            log.warning("dropped a member that reads nothing", waiting=WAITING)
            self.drop()
        else:
            self._outgoing.put_nowait(message)

    @property
    def last_heard(self) -> float:
        """When something last came, on either way: monotonic seconds."""
        return max(self.heard_at, self.relay.heard_at) if self.relay is not None else self.heard_at

    def close(self) -> None:
        """End the stream after what is queued, which the member must read in time, and the relay with it."""
        self._closed = True
        self._outgoing.put_nowait(_End)
        self._servicer.void(self.ticket)
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
        self._servicer.hang_up(self._peer)

    def stop_reading(self) -> None:
        """Take nothing more; called when the stream is over."""
        if self._expiry is not None:
            self._expiry.cancel()
        self._receiving.cancel()

    async def ended(self) -> None:
        """Return when nothing of it runs any more."""
        await asyncio.wait({self._receiving})


class Servicer(agent_worker_pb2_grpc.AgentRpcServicer):
    """The host of a fleet whose members come and go, and need not mean well."""

    def __init__(self, tokens: Tokens, hang_up: Callable[[str], None]) -> None:
        self.hang_up = hang_up
        """Cuts the connection of one of gRPC's peers."""
        self.connections: dict[str, Connection] = {}
        """By the client id that each member makes for each link, and shows to the host only."""
        self.routes: dict[Rights, dict[bytes, list[Connection]]] = {
            rights: {} for rights in (roles.WORKER, roles.GATEWAY, roles.OTHER, roles.NOTHING)
        }
        """Who is to have what is published to a topic, by the sender's rights: what these forbid is never there."""
        self._tokens = tokens
        self._owners: dict[str, Connection] = {}
        """Who has each agent type."""
        self._ids: dict[str, Connection] = {}
        """Who has each member id."""
        self._listeners: dict[str, dict[Connection, None]] = {}
        """Who listens on each topic."""
        self._prefixes: dict[str, dict[Connection, None]] = {}
        """Who listens on all topics that begin so."""
        self._tickets: dict[str, Connection] = {}
        self._repeats = Repeats()
        self._closing = False

    @property
    def members(self) -> int:
        """Members connected now."""
        return len(self.connections)

    def close(self) -> None:
        """End every member's stream; they will try to come back."""
        self._closing = True
        for connection in list(self.connections.values()):
            connection.close()

    # ------------------------------------------------------------ AutoGen's service

    async def OpenChannel(self, request_iterator: Any, context: Any) -> AsyncIterator[_Message]:  # noqa: N802
        """Carry one member's events, from its connection to its end."""
        shown = _metadata(context)
        client_id = shown.get(CLIENT_ID, "")
        if not client_id:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"the metadata {CLIENT_ID} is missing")
        if client_id in self.connections:
            await context.abort(grpc.StatusCode.ALREADY_EXISTS, f"the metadata {CLIENT_ID} is in use")
        may_be = await self._roles(context, shown.get("authorization", ""))
        connection = Connection(request_iterator, self, may_be, shown.get(MEMBER_KEY, ""), context.peer())
        self.connections[client_id] = connection
        self._tickets[connection.ticket] = connection
        try:
            await context.send_initial_metadata(((relay.TICKET, connection.ticket),))
            async for message in connection:
                yield message
        finally:
            del self.connections[client_id]
            self.void(connection.ticket)
            self._left(connection)
            await connection.ended()

    async def RegisterAgent(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Let a member have an agent type of its role, also when its former link is not yet known to be dead."""
        connection = await self._caller(context)
        try:
            self._register(connection, request.type)
        except Denied as denied:
            await self._deny(connection, context, denied)
        return agent_worker_pb2.RegisterAgentTypeResponse()

    async def AddSubscription(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Let a member listen to what its role allows, for an agent type of its own."""
        connection = await self._caller(context)
        try:
            self._subscribe(connection, request.subscription)
        except Denied as denied:
            await self._deny(connection, context, denied)
        except ValueError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        return agent_worker_pb2.AddSubscriptionResponse()

    async def RemoveSubscription(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Take back a subscription of the member's own."""
        connection = await self._caller(context)
        if request.id not in connection.subscriptions:
            await context.abort(grpc.StatusCode.NOT_FOUND, "this member has no subscription of that id")
        self._unsubscribe(connection, request.id)
        return agent_worker_pb2.RemoveSubscriptionResponse()

    async def GetSubscriptions(self, request: Any, context: Any) -> Any:  # noqa: N802
        """The member's own subscriptions: what others listen to is not its business."""
        connection = await self._caller(context)
        found = [_as_message(id_, subscription) for id_, subscription in connection.subscriptions.items()]
        return agent_worker_pb2.GetSubscriptionsResponse(subscriptions=found)

    async def OpenControlChannel(self, request_iterator: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        """Refused: nothing in the fleet uses it, and members could command each other."""
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "this host has no control channel")
        yield

    async def _roles(self, context: Any, authorization: str) -> Set[str]:
        """The roles that a connection may have, by its certificate and its token."""
        allowed = roles.ANY if not self._tokens else self._tokens.roles(authorization)
        certified = roles.certified(context.auth_context())
        if certified is None:
            secure = b"ssl" in context.auth_context().get("transport_security_type", ())
            if secure and allowed >= roles.ANY and self._repeats.is_new("no role"):
                log.warning("a member's certificate and token name no role: it can join as a worker or as a gateway")
            return allowed
        if not certified & allowed:
            reason = (
                "a host's certificate lets no member in"
                if not certified
                else "the certificate and the token of this member are of different roles"
            )
            self._log_denied(reason)
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, reason)
        return certified & allowed

    async def _caller(self, context: Any) -> Connection:
        shown = _metadata(context)
        connection = self.connections.get(shown.get(CLIENT_ID, ""))
        if connection is None:
            await self._roles(context, shown.get("authorization", ""))  # which may be why it has none
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "the member has no channel open")
            raise AssertionError
        return connection

    async def _deny(self, connection: Connection, context: Any, denied: Denied) -> None:
        self._log_denied(str(denied), member=connection.member_id)
        status = grpc.StatusCode.ALREADY_EXISTS if isinstance(denied, Taken) else grpc.StatusCode.PERMISSION_DENIED
        await context.abort(status, str(denied))

    def _log_denied(self, reason: str, **more: str) -> None:
        if self._repeats.is_new("denied", reason):
            log.warning("refused a member", reason=reason, **more)

    # ------------------------------------------------------------ who is who

    def _register(self, connection: Connection, agent_type: str) -> None:
        owner = self._owners.get(agent_type)
        if owner is connection:
            return
        rights, member_id = roles.rights_for(agent_type, connection.may_be)
        if connection.types and (rights is not connection.rights or member_id):
            raise Denied("a connection has one role and one member id, and this one has another")
        if len(agent_type) > LONGEST:
            raise Denied(f"an agent type may have {LONGEST} characters")
        if len(connection.types) >= ENTRIES:
            raise Denied(f"a member may register {ENTRIES} agent types")
        former = self._ids.get(member_id) if member_id else owner
        if former is not None:
            if not member_id or not connection.is_same_member(former):
                raise Taken("another member has this id or agent type and is still connected")
            self._withdraw(former)  # it is back on a new link, and no member is told that it left
            former.close()
        connection.types.add(agent_type)
        self._owners[agent_type] = connection
        if member_id:
            self._ids[member_id] = connection
        connection.become(rights, member_id)
        self._forget_routes()
        if rights.role is not None:
            log.info("member joined", kind=rights.role, member=member_id)

    def _subscribe(self, connection: Connection, subscription: agent_worker_pb2.Subscription) -> None:
        """Raises :class:`Denied`, and ``ValueError`` for a subscription that is none."""
        match subscription.WhichOneof("subscription"):
            case "typeSubscription":
                exact = subscription.typeSubscription
                wanted = Subscription(exact.topic_type, False, exact.agent_type)
            case "typePrefixSubscription":
                prefix = subscription.typePrefixSubscription
                wanted = Subscription(prefix.topic_type_prefix, True, prefix.agent_type)
            case _:
                raise ValueError("the subscription is of no known kind")
        if len(wanted.topic) > LONGEST or len(subscription.id) > LONGEST:
            raise ValueError(f"a topic, and a subscription's id, may have {LONGEST} characters")
        if wanted.agent_type not in connection.types:
            raise Denied("a member can subscribe for its own agent types only")
        if not _may_listen(connection, wanted):
            raise Denied(f"the role of this member does not allow it to listen to {wanted.topic[:100]!r}")
        if len(connection.subscriptions) >= ENTRIES:
            raise Denied(f"a member may have {ENTRIES} subscriptions")
        if subscription.id in connection.subscriptions or wanted in connection.subscriptions.values():
            raise ValueError("the subscription exists")
        connection.subscriptions[subscription.id] = wanted
        self._table(wanted).setdefault(wanted.topic, {})[connection] = None
        self._forget_routes()

    def _unsubscribe(self, connection: Connection, subscription_id: str) -> None:
        gone = connection.subscriptions.pop(subscription_id)
        if not any(kept[:2] == gone[:2] for kept in connection.subscriptions.values()):
            table = self._table(gone)
            del table[gone.topic][connection]
            if not table[gone.topic]:
                del table[gone.topic]
        self._forget_routes()

    def _table(self, subscription: Subscription) -> dict[str, dict[Connection, None]]:
        return self._prefixes if subscription.is_prefix else self._listeners

    def _withdraw(self, connection: Connection) -> tuple[Rights, str]:
        """Take from a connection all that it has; return what it was."""
        was = connection.rights, connection.member_id
        for subscription_id in list(connection.subscriptions):
            self._unsubscribe(connection, subscription_id)
        for agent_type in connection.types:
            del self._owners[agent_type]
        connection.types.clear()
        if connection.member_id:
            del self._ids[connection.member_id]
        connection.become(roles.NOTHING, "")
        return was

    def _left(self, connection: Connection) -> None:
        rights, member_id = self._withdraw(connection)
        connection.stop_reading()
        if self._closing or not member_id:
            return
        silent = time.monotonic() - connection.last_heard > SILENT_AFTER
        self._tell(rights.role or "", member_id, pb.LEAVE_CAUSE_SILENT if silent else pb.LEAVE_CAUSE_CLOSED)

    def _tell(self, kind: str, member_id: str, cause: pb.LeaveCause) -> None:
        log.info("member left", kind=kind, member=member_id, cause=pb.LeaveCause.Name(cause))
        left = pb.MemberLeft(member_id=member_id, kind=kind, cause=cause, sent_by=[topics.HOST])
        message = _Message(cloudEvent=event(left, topics.MEMBERS, f"left.{member_id}"))
        frame = packed(message.cloudEvent)
        for connection in self._found(topics.MEMBERS.type):
            connection.send(frame, message)

    def admit(self, ticket: str) -> Connection | None:
        """The connected member that was given this ticket, which is used up now."""
        return self._tickets.pop(ticket, None)

    def void(self, ticket: str) -> None:
        """Take this ticket no more."""
        self._tickets.pop(ticket, None)

    # ------------------------------------------------------------ events

    def published(self, sender: Connection, cloud_event: cloudevent_pb2.CloudEvent) -> None:
        """Pass on an event that came by gRPC to every member that listens on its topic."""
        if sender.rights is roles.OTHER:  # as it is: AutoGen's events have more to them than the fleet's
            if cloud_event.ByteSize() > sender.rights.largest(cloud_event.type.encode()):
                self._left_out(sender, "it is larger than a message to its topic may be")
                return
            frame = packed(cloud_event) if fits_a_frame(cloud_event) else None
            message = _Message(cloudEvent=cloud_event)
            for connection in self._route(sender, cloud_event.type.encode()):
                connection.send(frame, message)
        elif fits_a_frame(cloud_event):
            self.relayed(sender, packed(cloud_event))
        else:
            self._left_out(sender, "it is not one of the fleet's")

    def relayed(self, sender: Connection, frame: bytes) -> None:
        """The same for an event that came as a frame. It leaves with the sender's stamp in front of its message."""
        try:
            # As relay.unpack does it: a call for each batch would be felt.
            name_at = 6 + frame[4]
            payload_at = name_at + frame[name_at - 1]
            topic = frame[5 : name_at - 1]
            receivers = sender.routes.get(topic) or self._route(sender, topic)
            if not receivers:
                return
            if len(frame) > SMALL and len(frame) > sender.rights.largest(topic):
                self._left_out(sender, "it is larger than a message to its topic may be")
                return
            if not frame.startswith(sender.stamp, payload_at):
                frame = relay.stamped(frame, payload_at, sender.stamp)
            message: _Message | None = None
            for connection in receivers:
                if connection.relay is not None:
                    connection.relay.send(frame)
                else:
                    message = message or _Message(cloudEvent=event_of(frame))
                    connection.put(message)
        except (ValueError, IndexError):
            self._left_out(sender, "its frame is not valid")

    def _route(self, sender: Connection, topic: bytes) -> list[Connection]:
        """Who is to have what ``sender`` publishes to a topic; remembered when there is anyone."""
        try:
            name = TopicId(type=topic.decode(), source=topics.SOURCE).type
        except ValueError:
            self._left_out(sender, "its topic is not valid")
            return []
        if not sender.rights.may_publish(name):
            self._left_out(sender, "the role of the sender does not allow it to publish there")
            return []
        found = self._found(name)
        if found and len(sender.routes) < ROUTES:
            sender.routes[topic] = found
        return found

    def _found(self, topic: str) -> list[Connection]:
        found = dict(self._listeners.get(topic, ()))
        if not roles.is_fleets(topic):
            for prefix, connections in self._prefixes.items():
                if topic.startswith(prefix):
                    found.update(connections)
        return list(found)

    def _forget_routes(self) -> None:
        for routes in self.routes.values():
            routes.clear()

    def _left_out(self, sender: Connection, reason: str) -> None:
        if self._repeats.is_new(sender.ticket, reason):
            log.warning("dropped an event", reason=reason, member=sender.member_id or "unknown")


def _may_listen(connection: Connection, wanted: Subscription) -> bool:
    if wanted.is_prefix:
        return connection.rights.may_listen_to_all(wanted.topic)
    return connection.rights.may_listen(wanted.topic, connection.member_id)


def _metadata(context: Any) -> dict[str, str]:
    return {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}


def _as_message(subscription_id: str, subscription: Subscription) -> agent_worker_pb2.Subscription:
    topic, is_prefix, agent_type = subscription
    found = agent_worker_pb2.Subscription(id=subscription_id)
    if is_prefix:
        found.typePrefixSubscription.topic_type_prefix = topic
        found.typePrefixSubscription.agent_type = agent_type
    else:
        found.typeSubscription.topic_type = topic
        found.typeSubscription.agent_type = agent_type
    return found
