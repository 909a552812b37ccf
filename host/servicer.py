"""Routes events between members: AutoGen's servicer with a guarded fan-out, take-over, and news of who left.

Where AutoGen makes a task per event, formats it into a log and loses the rest of a fan-out when a member is just gone,
this handles events in the order in which they arrive and skips who is gone. An event may come on either of a member's
two ways, gRPC or relay, and leaves on the relay of each member that has one.
"""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from typing import Any

from autogen_core import TopicId
from autogen_ext.runtimes.grpc._worker_runtime_host_servicer import (
    ChannelConnection,
    GrpcWorkerAgentRuntimeHostServicer,
    get_client_id_or_abort,
)
from autogen_ext.runtimes.grpc.protos import agent_worker_pb2, cloudevent_pb2

from fleet import logs, relay, topics
from fleet.events import event, event_of, fits_a_frame, packed
from fleet.link import KEEPALIVE_TIME
from host.relay import MemberEnd
from protos import chat_pb2 as pb

log = logs.logger(__name__)

SILENT_AFTER = KEEPALIVE_TIME
"""Seconds without a word after which a lost member counts as silent rather than closed: workers speak every second."""

_Message = agent_worker_pb2.Message
_End = None


class Connection(ChannelConnection[_Message, _Message]):
    """One member's stream. Iterating gives what to send to it, until it is closed."""

    def __init__(self, messages: AsyncIterator[_Message], client_id: str, servicer: "Servicer") -> None:
        self.heard_at = time.monotonic()
        """When something last came by gRPC."""
        self.ticket = secrets.token_urlsafe(24)
        """What its relay must show, once."""
        self.relay: MemberEnd | None = None
        self._servicer = servicer
        self._outgoing: asyncio.Queue[_Message | None] = asyncio.Queue()
        super().__init__(messages, client_id)

    async def _receive_messages(self, client_id: str, request_iterator: AsyncIterator[_Message]) -> None:
        try:
            async for message in request_iterator:
                self.heard_at = time.monotonic()
                await self._handle_message(message)
        finally:
            self.close()

    async def _handle_message(self, message: _Message) -> None:
        if message.WhichOneof("message") != "cloudEvent":
            return  # nobody in the fleet sends anything else
        try:
            self._servicer.route(message.cloudEvent)
        except ValueError:
            log.warning("dropped an event: its topic is not valid", client=self._client_id)

    async def __anext__(self) -> _Message:
        message = await self._outgoing.get()
        if message is _End:
            raise StopAsyncIteration
        return message

    def put(self, message: _Message) -> None:
        """Queue a message for the member; the lanes' windows bound what waits."""
        self._outgoing.put_nowait(message)

    async def send(self, message: _Message) -> None:
        """As :meth:`put`, for AutoGen's own calls."""
        self.put(message)

    @property
    def last_heard(self) -> float:
        """When something last came, on either way: monotonic seconds."""
        return max(self.heard_at, self.relay.heard_at) if self.relay is not None else self.heard_at

    def close(self) -> None:
        """End the stream after what is queued, and the relay with it."""
        self._outgoing.put_nowait(_End)
        self._servicer.void(self.ticket)
        if self.relay is not None:
            self.relay.close()

    async def ended(self) -> None:
        """Stop reading; called when the stream is over."""
        self._receiving_task.cancel()
        await asyncio.gather(self._receiving_task, return_exceptions=True)


class Servicer(GrpcWorkerAgentRuntimeHostServicer):
    """AutoGen's host servicer for a fleet whose members come and go."""

    def __init__(self) -> None:
        super().__init__()
        self._connections: dict[str, Connection] = {}
        self._routes: dict[bytes, list[Connection]] = {}
        """Who is to have what is published to a topic, by the topic's type: its source is always the same."""
        self._tickets: dict[str, Connection] = {}
        self._closing = False

    @property
    def members(self) -> int:
        """Members connected now."""
        return len(self._connections)

    def close(self) -> None:
        """End every member's stream; they will try to come back."""
        self._closing = True
        for connection in self._connections.values():
            connection.close()

    async def OpenChannel(self, request_iterator: Any, context: Any) -> AsyncIterator[_Message]:  # noqa: N802
        """Carry one member's events, from its connection to its end."""
        client_id = await get_client_id_or_abort(context)
        connection = Connection(request_iterator, client_id, self)
        self._connections[client_id] = connection
        self._data_connections[client_id] = connection
        self._tickets[connection.ticket] = connection
        self._routes.clear()
        try:
            await context.send_initial_metadata(((relay.TICKET, connection.ticket),))
            async for message in connection:
                yield message
        finally:
            del self._connections[client_id]
            del self._data_connections[client_id]
            self.void(connection.ticket)
            self._routes.clear()
            await asyncio.shield(self._left(client_id, connection))

    async def RegisterAgent(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Let a member have its agent type, also when its former connection is not yet known to be dead.

        Member ids are random, so a second claim to a type can only come from the same member on a new connection.
        """
        client_id = await get_client_id_or_abort(context)
        former = self._agent_type_to_client_id.get(request.type)
        if former is not None and former != client_id:
            await self._replace(former)
        response = await super().RegisterAgent(request, context)
        self._routes.clear()
        found = topics.member(request.type)
        if found is not None:
            log.info("member joined", kind=found[0], member=found[1])
        return response

    async def AddSubscription(self, request: Any, context: Any) -> Any:  # noqa: N802
        """As AutoGen's, and the routes are made anew."""
        response = await super().AddSubscription(request, context)
        self._routes.clear()
        return response

    async def RemoveSubscription(self, request: Any, context: Any) -> Any:  # noqa: N802
        """As AutoGen's, and the routes are made anew."""
        response = await super().RemoveSubscription(request, context)
        self._routes.clear()
        return response

    def admit(self, ticket: str) -> Connection | None:
        """The connected member that was given this ticket, which is used up now."""
        return self._tickets.pop(ticket, None)

    def void(self, ticket: str) -> None:
        """Take this ticket no more."""
        self._tickets.pop(ticket, None)

    def route(self, cloud_event: cloudevent_pb2.CloudEvent) -> None:
        """Pass an event on to every member that subscribed to its topic; members that are gone are skipped.

        Raises ``ValueError`` for a topic that is none.
        """
        frame: bytes | None = None
        fits = fits_a_frame(cloud_event)
        topic = cloud_event.type.encode()
        for connection in self._routes.get(topic) or self._route_of(topic):
            if connection.relay is None or not fits:
                connection.put(_Message(cloudEvent=cloud_event))
            else:
                frame = frame or packed(cloud_event)
                connection.relay.send(frame)

    def relayed(self, frame: bytes) -> None:
        """The same for an event that came as a frame."""
        message: _Message | None = None
        try:
            topic = relay.topic_of(frame)
            for connection in self._routes.get(topic) or self._route_of(topic):
                if connection.relay is not None:
                    connection.relay.send(frame)
                else:
                    message = message or _Message(cloudEvent=event_of(frame))
                    connection.put(message)
        except ValueError:
            log.warning("dropped an event: its frame or its topic is not valid")

    def _route_of(self, topic: bytes) -> list[Connection]:
        clients = self._find_clients(TopicId(type=topic.decode(), source=topics.SOURCE))
        found = [connection for client in clients if (connection := self._connections.get(client)) is not None]
        if found:  # what nobody listens to may be anything
            self._routes[topic] = found
        return found

    def _find_clients(self, topic: TopicId) -> list[str]:
        clients: dict[str, None] = {}
        for subscription in self._subscription_manager.subscriptions:
            if subscription.is_match(topic):
                client_id = self._agent_type_to_client_id.get(subscription.map_to_agent(topic).type)
                if client_id is not None:
                    clients[client_id] = None
        return list(clients)

    async def _replace(self, client_id: str) -> None:
        """Take everything from a connection whose member is back on another one; nobody is told that it left."""
        await self._on_client_disconnect(client_id)
        self._routes.clear()
        self._client_id_to_subscription_id_mapping.pop(client_id, None)
        connection = self._connections.get(client_id)
        if connection is not None:
            connection.close()

    async def _left(self, client_id: str, connection: Connection) -> None:
        await connection.ended()
        types = [name for name, owner in self._agent_type_to_client_id.items() if owner == client_id]
        await self._on_client_disconnect(client_id)
        self._routes.clear()
        self._client_id_to_subscription_id_mapping.pop(client_id, None)
        if self._closing:
            return
        silent = time.monotonic() - connection.last_heard > SILENT_AFTER
        for found in filter(None, map(topics.member, types)):
            self._tell(*found, pb.LEAVE_CAUSE_SILENT if silent else pb.LEAVE_CAUSE_CLOSED)

    def _tell(self, kind: str, member_id: str, cause: pb.LeaveCause) -> None:
        log.info("member left", kind=kind, member=member_id, cause=pb.LeaveCause.Name(cause))
        left = pb.MemberLeft(member_id=member_id, kind=kind, cause=cause)
        self.route(event(left, topics.MEMBERS, f"left.{member_id}"))
