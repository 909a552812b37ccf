"""A member's link to the host: AutoGen's runtime that starts before the host, and comes back after it.

AutoGen 0.7.5's ``GrpcWorkerAgentRuntime`` fails to start without a host and publishes into nothing after its loss.
:class:`FleetRuntime` keeps one link after another alive under the same agents and subscriptions. Parts of AutoGen that
are private and used here: ``HostConnection``, ``_host_connection``, ``_running``, ``_background_tasks``,
``_process_event``, ``_agent_factories``, ``_register_agent_type``, ``_subscription_manager``,
``_serialization_registry``; ``tests/unit/fleet/bus/test_autogen_private.py`` fails when one changes.
"""

import asyncio
import itertools
import os
import random
import secrets
import time
from collections.abc import Callable
from typing import Any, TypeVar

import grpc
from autogen_core import PROTOBUF_DATA_CONTENT_TYPE, AgentId, CancellationToken, Subscription, TopicId
from autogen_ext.runtimes.grpc import GrpcWorkerAgentRuntime
from autogen_ext.runtimes.grpc._utils import subscription_to_proto
from autogen_ext.runtimes.grpc.protos import agent_worker_pb2, cloudevent_pb2
from google.protobuf.message import Message

from fleet import logs
from fleet.bus import relay, topics
from fleet.bus.events import TYPE_URL, event, event_of
from fleet.bus.link import AWAY, KEEPALIVE_TIME, KEEPALIVE_TIMEOUT, MESSAGE_BYTES, Link, reason_of
from fleet.bus.relay import Relay
from fleet.process.repeats import Repeats
from fleet.security import diagnosis
from fleet.settings import FleetSettings

log = logs.logger(__name__)

RETRY_FIRST = 0.05
RETRY_LAST = 1.0
"""Seconds between attempts to reach the host, doubled from first to last, each shortened by chance by up to half."""

STEADY = 5.0
"""Seconds that a link must have lasted for the next attempts to begin with the first pause again."""

DIAGNOSE_EVERY = 3.0
"""Seconds between two looks at why the host cannot be joined."""

DIAL_TIMEOUT = 5.0
"""Seconds for one attempt to reach the host and to register, or to have its relay."""

RELAY_RETRY = 5.0
"""Seconds between attempts to have the relay of a host that is there."""

MessageT = TypeVar("MessageT", bound=Message)


class FleetRuntime(GrpcWorkerAgentRuntime):
    """AutoGen's member runtime on a link that comes back.

    Agents are registered as always, before or after :meth:`start`. Events published while the link is down are dropped:
    what must arrive goes through a lane. ``on_link`` is called with True after every join, when all agents and
    subscriptions are known to the host, and with False after every loss.
    """

    def __init__(self, settings: FleetSettings, on_link: Callable[[bool], None]) -> None:
        # gRPC's core would write a line of its own about every try to join that fails, once a second.
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")
        super().__init__(str(settings.host), payload_serialization_format=PROTOBUF_DATA_CONTENT_TYPE)
        self._settings = settings
        self._on_link = on_link
        self._link: Link | None = None
        self._diagnosis: str | None = None
        self._diagnose_at = float("-inf")
        self._host_connection = AWAY
        self._keeper: asyncio.Task[None] | None = None
        self._event_ids = itertools.count(1)
        self._relay: Relay | None = None
        self._key = secrets.token_urlsafe(24)
        self._stamp = b""
        self._repeats = Repeats()
        self._shortcuts: dict[bytes, Callable[[bytes], None]] = {}
        """By the message's full name."""

    @property
    def linked(self) -> bool:
        """Whether the host is there and knows this member."""
        return self._link is not None

    async def start(self) -> None:
        """Begin to keep a link to the host; returns at once, whether or not the host is there."""
        if self._running:
            raise ValueError("Runtime is already running.")
        self._running = True
        self._keeper = asyncio.create_task(self._keep_link())

    async def stop(self) -> None:
        """Leave the host. What was published and not sent is lost: drain the lanes first."""
        self._running = False
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
            self._keeper = None

    def publish(self, message: Message, topic: TopicId, sender: AgentId | None = None) -> None:
        """Send an event, or drop it while the link is down. The message may be changed afterwards."""
        if self._relay is not None:
            self._relay.send(relay.pack(topic.type, message, self._stamp))
        elif self._link is not None:
            cloud_event = event(message, topic, str(next(self._event_ids)), sender)
            self._link.put(agent_worker_pb2.Message(cloudEvent=cloud_event))

    async def publish_message(
        self,
        message: Any,
        topic_id: TopicId,
        *,
        sender: AgentId | None = None,
        cancellation_token: CancellationToken | None = None,
        message_id: str | None = None,
    ) -> None:
        """AutoGen's way to :meth:`publish`; protobuf messages only."""
        self.publish(message, topic_id, sender)

    def shortcut(self, kind: type[MessageT], receive: Callable[[MessageT], None], largest: int = MESSAGE_BYTES) -> None:
        """Hand every event of this ``kind`` straight to ``receive``, in the order of arrival, instead of to an agent.

        For the messages that come by the hundred a second: a task, a copy and a log text for each cost more than what
        is done with them. Whatever topic of ours they came on, no agent sees them. One of more than ``largest`` bytes
        is dropped before it is parsed.
        """
        parse = kind.FromString

        def take(payload: bytes) -> None:
            if len(payload) <= largest:
                receive(parse(payload))
            elif self._repeats.is_new("large", kind.DESCRIPTOR.name):
                log.warning("dropped a message that is too large", kind=kind.DESCRIPTOR.name, bytes=len(payload))

        self._shortcuts[kind.DESCRIPTOR.full_name.encode()] = take

    async def add_subscription(self, subscription: Subscription) -> None:
        """Subscribe, now and on every later link."""
        await self._subscription_manager.add_subscription(subscription)
        if self._link is not None:
            await self._subscribe(self._link, subscription)

    async def _register_agent_type(self, agent_type: str) -> None:
        if (member := topics.member(agent_type)) is not None:
            self._stamp = relay.stamp(member[1])
        if self._link is not None:
            await self._register(self._link, agent_type)

    async def _register(self, link: Link, agent_type: str) -> None:
        request = agent_worker_pb2.RegisterAgentTypeRequest(type=agent_type)
        await link.stub.RegisterAgent(request, metadata=link.metadata)

    async def _subscribe(self, link: Link, subscription: Subscription) -> None:
        request = agent_worker_pb2.AddSubscriptionRequest(subscription=subscription_to_proto(subscription))
        await link.stub.AddSubscription(request, metadata=link.metadata)

    async def _keep_link(self) -> None:
        """Join, serve until the link ends, join again; each new reason for failing is logged once."""
        delay, said = 0.0, ""
        while True:
            await asyncio.sleep(delay * random.uniform(0.5, 1))  # noqa: S311
            try:
                link = await self._join()
            except Exception as error:  # whatever it is, a member that stopped trying would be lost without a word
                reason = await self._why(error)
                if reason != said:
                    said = reason
                    log.warning("cannot join the host, trying on", host=self._host_address, reason=reason)
                delay = min(max(RETRY_FIRST, delay * 2), RETRY_LAST)
                continue
            said, joined_at = "", time.monotonic()
            try:
                await self._serve(link)
            except Exception as error:  # as above
                log.error("the link failed, joining again", exc_info=error)
            finally:
                await self._close(link)
            steady = time.monotonic() - joined_at >= STEADY
            delay = 0.0 if steady else min(max(RETRY_FIRST, delay * 2), RETRY_LAST)

    async def _close(self, link: Link) -> None:
        try:
            await link.close()
        except Exception as error:  # it is gone in any case
            log.debug("a link did not close", reason=type(error).__name__)

    async def _why(self, error: Exception) -> str:
        """Why joining failed; for a connection that was not to be had, what TLS has to do with it."""
        unreachable = isinstance(error, grpc.RpcError) and error.code() == grpc.StatusCode.UNAVAILABLE
        if not unreachable and not isinstance(error, TimeoutError):
            return reason_of(error)
        now = time.monotonic()
        if now >= self._diagnose_at:
            self._diagnose_at = now + DIAGNOSE_EVERY
            try:
                self._diagnosis = await diagnosis.refusal(self._settings.host, self._settings.identity())
            except Exception as trouble:  # a diagnosis must not end the tries
                log.debug("no diagnosis", reason=type(trouble).__name__)
        return self._diagnosis or reason_of(error)

    async def _join(self) -> Link:
        async with asyncio.timeout(DIAL_TIMEOUT):
            link = await Link.dial(self._settings, self._key)
            try:
                for agent_type in list(self._agent_factories):
                    await self._register(link, agent_type)
                for subscription in list(self._subscription_manager.subscriptions):
                    await self._subscribe(link, subscription)
            except BaseException:
                await self._close(link)
                raise
            return link

    async def _serve(self, link: Link) -> None:
        self._link = self._host_connection = link
        log.info("joined the host", host=self._host_address)
        reason = ""
        ways = [asyncio.create_task(self._read(link)), asyncio.create_task(self._carry(link))]
        try:
            self._on_link(True)
            ended, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            way = next(iter(ended))
            reason = "cancelled" if way.cancelled() else way.result()
        finally:
            self._link, self._host_connection = None, AWAY
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            self._on_link(False)
        log.warning("lost the host", host=self._host_address, reason=reason)

    async def _read(self, link: Link) -> str:
        """Take what comes on the gRPC stream until it ends; why it did."""
        try:
            while (message := await link.read()) is not None:
                self._receive(message)
        except grpc.RpcError as error:
            return reason_of(error)
        return "closed by the host"

    async def _carry(self, link: Link) -> str:
        """Have the relay until it is lost; why it was. A host that cannot be reached by relay is asked again."""
        try:
            ticket = await link.ticket()
        except grpc.RpcError as error:
            return reason_of(error)
        said = False
        while ticket is not None:
            try:
                async with asyncio.timeout(DIAL_TIMEOUT):
                    found = await self._dial(ticket)
            except Exception as error:  # whatever it is, events can pass by gRPC
                if not said:
                    said = True
                    log.warning("no relay, events pass by gRPC", host=self._host_address, reason=reason_of(error))
                await asyncio.sleep(RELAY_RETRY)
                continue
            self._relay = found
            try:
                await asyncio.shield(found.closed)  # which goes on to tell the relay's own watch
            finally:
                self._relay = None
                found.close()
            return "its relay was closed"
        await asyncio.get_running_loop().create_future()  # for ever
        raise AssertionError

    async def _dial(self, ticket: str) -> Relay:
        identity = self._settings.identity()
        return await relay.dial(
            self._settings.host,
            identity.context() if identity is not None else None,
            ticket,
            lambda: Relay(self._relayed, MESSAGE_BYTES, KEEPALIVE_TIME, KEEPALIVE_TIMEOUT),
        )

    def _receive(self, message: agent_worker_pb2.Message) -> None:
        if message.WhichOneof("message") != "cloudEvent":
            return  # no member of the fleet sends anything else
        payload = message.cloudEvent.proto_data
        self._take(payload.type_url.removeprefix(TYPE_URL).encode(), payload.value, lambda: message.cloudEvent)

    def _relayed(self, frame: bytes) -> None:
        try:
            name, payload = relay.content_of(frame)
        except IndexError as error:
            self._not_understood("a frame that is cut off", error)
        else:
            self._take(name, payload, lambda: event_of(frame))

    def _take(self, name: bytes, payload: bytes, whole: Callable[[], cloudevent_pb2.CloudEvent]) -> None:
        """Hand an event to the shortcut of its kind, or to the agents that know it, if there are any."""
        receive = self._shortcuts.get(name)
        kind = name.decode("ascii", "replace")
        try:
            if receive is not None:
                receive(payload)
            elif self._serialization_registry.is_registered(kind, PROTOBUF_DATA_CONTENT_TYPE):
                self._process(kind, whole())
            elif self._repeats.is_new("unknown", kind):
                log.debug("an event of an unknown kind was ignored", kind=kind)
        except Exception as error:
            self._not_understood(kind, error)

    def _process(self, kind: str, cloud_event: cloudevent_pb2.CloudEvent) -> None:
        def processed(task: asyncio.Task[Any]) -> None:
            self._background_tasks.discard(task)
            if not task.cancelled() and (error := task.exception()) is not None:
                self._not_understood(kind, error)

        task = asyncio.create_task(self._process_event(cloud_event))
        self._background_tasks.add(task)
        task.add_done_callback(processed)

    def _not_understood(self, kind: str, error: BaseException) -> None:
        if self._repeats.is_new("not understood", kind):
            log.error("an event was not understood", kind=kind, exc_info=error)
