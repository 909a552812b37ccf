"""AutoGen's gRPC service for members that come and go, and may be hostile.

AutoGen's own servicer makes a task per event, formats it into a log, trusts every member with everything and loses the
rest of a fan-out when a member is gone. This one handles messages in the order in which they arrive, refuses what a
member's role does not allow, and skips members that are gone. An event may come by gRPC or by relay, and leaves by the
relay of each member that has one; requests and responses pass by gRPC (:mod:`host.requests`).
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Set
from functools import partial
from typing import Any

import grpc
from autogen_ext.runtimes.grpc.protos import agent_worker_pb2, agent_worker_pb2_grpc, cloudevent_pb2

from fleet import logs
from fleet.bus import relay, topics
from fleet.bus.events import event, event_of, fits_a_frame, packed
from fleet.bus.link import CLIENT_ID, KEEPALIVE_TIME, MEMBER_KEY
from fleet.process.repeats import Repeats
from fleet.security.tokens import OTHERS, Tokens
from host import roles
from host.member import Member
from host.parting import Parting
from host.registry import Registry
from host.requests import Requests
from host.roles import Denied, Taken
from protos import chat_pb2 as pb

log = logs.logger(__name__)

SILENT_AFTER = KEEPALIVE_TIME
"""Seconds of silence after which a lost member counts as silent rather than closed. Workers publish every second."""

SMALL = 64 * 1024
"""Bytes of a frame that is never too large."""

MOST_NAMED = 1000
"""Characters of the agent types that are logged of a member that leaves."""

TOO_LARGE = "it is larger than a message to its topic may be"

_Message = agent_worker_pb2.Message


class Counts:
    """What has happened since the start. ``refusals`` and ``drops`` are by a word for the reason, logged or not."""

    def __init__(self) -> None:
        self.frames = 0
        """Events that came as frames, and those of ``repacked``, which came by gRPC."""
        self.repacked = 0
        self.messages = 0
        """Events of AutoGen's own members."""
        self.refusals = Counter[str]()
        self.drops = Counter[str]()
        self.left = Counter[tuple[str, str]]()
        """Members that left, by kind and cause."""


class Servicer(agent_worker_pb2_grpc.AgentRpcServicer):
    """Lets members in and routes their events. ``drop`` cuts the connection of one of gRPC's peers.

    ``relay_port`` is what members are told; no relay is offered while it is 0. ``address`` returns what to log for a
    peer. AutoGen's own members may send each other messages of ``largest`` bytes. It has 13 attributes because gRPC
    takes all calls of one service from one object.
    """

    def __init__(
        self,
        tokens: Tokens,
        drop: Callable[[str], None],
        relay_port: int = 0,
        address: Callable[[str], str] = str,
        largest: int = roles.STOCK_BYTES,
    ) -> None:
        self.members: dict[str, Member] = {}
        """By the client id that each member makes for each link, and shows to the host only."""
        self.registry = Registry()
        self._requests = Requests(self.registry, largest)
        self.tickets: dict[str, Member] = {}
        """Those that no relay has shown yet."""
        self._relay_port = relay_port
        self._tokens = tokens
        self._drop = drop
        self._address = address
        self._largest = largest
        self._repeats = Repeats()
        self._closing = False
        self._parting: Parting | None = None
        self.counts = Counts()

    async def part(self, timeout: float) -> None:
        """Serve on for members that drain, ``timeout`` seconds at most."""
        self._parting = Parting()
        await self._parting.over(self.members.values(), timeout)

    def close(self) -> None:
        """End every member's stream; they will try to come back."""
        self._closing = True
        for member in list(self.members.values()):
            member.close()

    # ------------------------------------------------------------ AutoGen's service

    async def OpenChannel(self, request_iterator: Any, context: Any) -> AsyncIterator[_Message]:  # noqa: N802
        metadata = _metadata(context)
        client_id = metadata.get(CLIENT_ID, "")
        if not client_id:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"the metadata {CLIENT_ID} is missing")
        if client_id in self.members:
            await context.abort(grpc.StatusCode.ALREADY_EXISTS, f"the metadata {CLIENT_ID} is in use")
        may_be, cut = await self._roles(context), partial(self._drop, context.peer())
        address = self._address(context.peer())
        member = Member(may_be, metadata.get(MEMBER_KEY, ""), self.registry.routes, cut, address)
        self.members[client_id] = member
        receiving = asyncio.create_task(self._receive(member, request_iterator))
        try:
            await context.send_initial_metadata(self._offer(member))
            async for message in member:
                yield message
        finally:
            del self.members[client_id]
            self.tickets.pop(member.ticket, None)
            self._left(member)
            member.ended()
            receiving.cancel()
            await asyncio.wait({receiving})

    async def _receive(self, member: Member, messages: AsyncIterator[_Message]) -> None:
        try:
            async for message in messages:
                member.heard_at = time.monotonic()
                self._handle(member, message)
        except grpc.RpcError:
            pass  # the connection has ended
        except Exception as error:
            log.error("a member's stream failed", member=member.name, exc_info=error)
        finally:
            member.close()

    def _handle(self, member: Member, message: _Message) -> None:
        if member.rights is roles.OTHER and not member.was_seen:  # it has no agents
            member.was_seen = True
            log.info("member joined", kind=OTHERS, member=member.name)
        match message.WhichOneof("message"):
            case "cloudEvent":
                self.published(member, message.cloudEvent)
            case "request":
                self._requests.requested(member, message)
            case "response":
                self._requests.responded(member, message)

    async def RegisterAgent(self, request: Any, context: Any) -> Any:  # noqa: N802
        member = await self._caller(context)
        try:
            self.registry.register(member, request.type)
        except (Denied, ValueError) as error:
            await self._refuse(context, error, member=member.name)
        return agent_worker_pb2.RegisterAgentTypeResponse()

    async def AddSubscription(self, request: Any, context: Any) -> Any:  # noqa: N802
        member = await self._caller(context)
        try:
            self.registry.subscribe(member, request.subscription)
        except (Denied, ValueError) as error:
            await self._refuse(context, error, member=member.name)
        return agent_worker_pb2.AddSubscriptionResponse()

    async def RemoveSubscription(self, request: Any, context: Any) -> Any:  # noqa: N802
        member = await self._caller(context)
        if request.id not in member.subscriptions:
            await context.abort(grpc.StatusCode.NOT_FOUND, "this member has no subscription of that id")
        self.registry.unsubscribe(member, request.id)
        return agent_worker_pb2.RemoveSubscriptionResponse()

    async def GetSubscriptions(self, request: Any, context: Any) -> Any:  # noqa: N802
        """The member's own; those of others are not shown."""
        member = await self._caller(context)
        found = [subscription.message(id_) for id_, subscription in member.subscriptions.items()]
        return agent_worker_pb2.GetSubscriptionsResponse(subscriptions=found)

    async def OpenControlChannel(self, request_iterator: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        # Nothing in the fleet uses it, and members could command each other.
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "this host has no control channel")
        yield

    # ------------------------------------------------------------ who calls

    async def _roles(self, context: Any) -> Set[str]:
        """The roles that a connection may have, by its certificate and its token."""
        shown = roles.shown(context.invocation_metadata())
        allowed = self._tokens.roles(shown) if self._tokens else roles.ANY
        certified = roles.certified(context.auth_context())
        if certified is None:
            secure = b"ssl" in context.auth_context().get("transport_security_type", ())
            if secure and allowed >= roles.ANY and self._repeats.is_new("no role"):
                log.warning("a member's certificate and token name no role", reason="it can join as any")
            return allowed
        if not certified:
            await self._refuse(context, Denied("a host's certificate lets no member in"))
        if not certified & allowed:
            await self._refuse(context, Denied("the certificate and the token of this member are of different roles"))
        return certified & allowed

    async def _caller(self, context: Any) -> Member:
        member = self.members.get(_metadata(context).get(CLIENT_ID, ""))
        if member is None:
            await self._roles(context)  # which may be why it has none
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "the member has no channel open")
            raise AssertionError
        return member

    async def _refuse(self, context: Any, error: Denied | ValueError, **more: str) -> None:
        match error:
            case Taken():
                kind, status = "taken", grpc.StatusCode.ALREADY_EXISTS
            case Denied():
                kind, status = "role", grpc.StatusCode.PERMISSION_DENIED
            case _:
                kind, status = "invalid", grpc.StatusCode.INVALID_ARGUMENT
        self.counts.refusals[kind] += 1
        if self._repeats.is_new("refused", str(error)):
            log.warning("refused a member", reason=str(error), **more)
        await context.abort(status, str(error))

    # ------------------------------------------------------------ tickets

    def _offer(self, member: Member) -> tuple[tuple[str, str], ...]:
        if not self._relay_port:
            return ()
        self.tickets[member.ticket] = member
        return ((relay.PORT, str(self._relay_port)), (relay.TICKET, member.ticket))

    def admit(self, ticket: str) -> Member | None:
        """The connected member that was given this ticket, which is used up now."""
        member = self.tickets.pop(ticket, None)
        return None if member is None or member.is_closed else member

    # ------------------------------------------------------------ members that leave

    def _left(self, member: Member) -> None:
        """Tell the others that a member has left, unless it is back on a new link or the host itself ends."""
        silent = time.monotonic() - member.last_heard > SILENT_AFTER
        cause = "silent" if silent else "closed"
        if member.was_seen:
            self.counts.left[OTHERS, cause] += 1
            types = ", ".join(sorted(member.types))[:MOST_NAMED] or None
            log.info("member left", kind=OTHERS, member=member.name, agent_types=types)
        self._requests.left(member)
        rights, member_id = self.registry.withdraw(member)
        if self._closing or not member_id:
            return
        kind, told = rights.role or "", pb.LEAVE_CAUSE_SILENT if silent else pb.LEAVE_CAUSE_CLOSED
        self.counts.left[kind, cause] += 1
        log.info("member left", kind=kind, member=member_id, cause=pb.LeaveCause.Name(told))
        left = pb.MemberLeft(member_id=member_id, kind=kind, cause=told, sent_by=[topics.HOST])
        message = _Message(cloudEvent=event(left, topics.MEMBERS, f"left.{member_id}"))
        self._send(None, self.registry.listeners(topics.MEMBERS.type), packed(message.cloudEvent), message)

    # ------------------------------------------------------------ events

    def published(self, sender: Member, cloud_event: cloudevent_pb2.CloudEvent) -> None:
        """Pass on an event that came by gRPC to every member that listens on its topic."""
        fits = fits_a_frame(cloud_event)
        if sender.rights is roles.OTHER:  # as it is: AutoGen's events have more to them than the fleet's
            topic = cloud_event.type.encode()
            message = _Message(cloudEvent=cloud_event)
            self.counts.messages += 1
            if message.ByteSize() > self._largest:
                self._dropped("too_large", sender, TOO_LARGE)
                return
            self._send(sender, self._receivers(sender, topic), packed(cloud_event) if fits else b"", message)
        elif fits:
            self.counts.repacked += 1
            self.relayed(sender, packed(cloud_event))
        else:
            self._dropped("invalid", sender, "it is not one of the fleet's")

    def relayed(self, sender: Member, frame: bytes) -> None:
        """Pass on an event that came as a frame. It leaves with the sender's stamp in front of its message."""
        self.counts.frames += 1
        try:
            # As relay.unpack does it: a further call for each batch would be felt.
            name_at = 6 + frame[4]
            payload_at = name_at + frame[name_at - 1]
            topic = frame[5 : name_at - 1]
            receivers = sender.routes.get(topic) or self._receivers(sender, topic)
            if not receivers:
                return
            if self._parting is not None:
                self._parting.heard(sender, topic, frame[payload_at:])
            if len(frame) > SMALL and len(frame) > sender.rights.largest(topic):
                self._dropped("too_large", sender, TOO_LARGE)
                return
            if not frame.startswith(sender.stamp, payload_at):
                frame = relay.stamped(frame, payload_at, sender.stamp)
            self._send(sender, receivers, frame)
        except (ValueError, IndexError):
            self._dropped("invalid", sender, "its frame is not valid")

    def _send(
        self, sender: Member | None, receivers: Iterable[Member], frame: bytes, message: _Message | None = None
    ) -> None:
        """Send one event to each receiver as a frame, where it has one and the receiver a relay, or as a message."""
        size = len(frame) if frame or message is None else message.ByteSize()
        for receiver in receivers:
            if not receiver.has_room(sender, size):
                self._dropped("no_room", sender, "too much waits for its receiver", receiver=receiver.name)
            elif receiver.relay is not None and frame:
                receiver.relay.send(frame)
            else:
                message = message or _Message(cloudEvent=event_of(frame))
                receiver.put(message)

    def _receivers(self, sender: Member, topic: bytes) -> list[Member]:
        try:
            return self.registry.route(sender, topic)
        except Denied as denied:
            self._dropped("role", sender, str(denied))
            return []

    def _dropped(self, kind: str, sender: Member | None, reason: str, **more: str) -> None:
        self.counts.drops[kind] += 1
        if self._repeats.is_new(sender and sender.ticket, reason):
            log.warning("dropped an event", reason=reason, member=sender and sender.name, **more)


def _metadata(context: Any) -> dict[str, str]:
    return {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
