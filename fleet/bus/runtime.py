"""A member's runtime: AutoGen's, but it starts without a host and joins again after a loss.

AutoGen 0.7.5's ``GrpcWorkerAgentRuntime`` fails to start without a host and silently loses events after its loss.
:class:`FleetRuntime` opens one link after another for the same agents and subscriptions. It uses these private parts of
AutoGen: ``HostConnection``, ``_host_connection``, ``_running``, ``_background_tasks``, ``_process_event``,
``_agent_factories``, ``_register_agent_type``, ``_subscription_manager``, ``_serialization_registry``;
``tests/unit/fleet/bus/test_autogen_private.py`` fails when one changes.
"""

import asyncio
import contextlib
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
from autogen_ext.runtimes.grpc.protos import agent_worker_pb2, cloudevent_pb2
from google.protobuf.message import Message

from fleet import logs
from fleet.bus import relay, topics
from fleet.bus.events import TYPE_URL, event, event_of
from fleet.bus.link import AWAY, KEEPALIVE_TIME, KEEPALIVE_TIMEOUT, MESSAGE_BYTES, Link, reason_of
from fleet.bus.relay import Relay
from fleet.process.repeats import Repeats
from fleet.security.diagnosis import Diagnosis
from fleet.settings import FleetSettings

log = logs.logger(__name__)

RETRY_FIRST = 0.05
RETRY_LAST = 1.0
"""Seconds between attempts to join, doubled from first to last. Each is shortened at random by up to half."""

STEADY = 5.0
"""Seconds that a link must have lasted for the pauses to begin with the first again."""

DIAL_TIMEOUT = 5.0
"""Seconds for one attempt to join, or to open the relay."""

RELAY_RETRY = 5.0
"""Seconds between attempts to open the relay."""

LEAVE_TIMEOUT = 3.0
"""Seconds for the host to confirm what a leaving member published last."""

MessageT = TypeVar("MessageT", bound=Message)


class FleetRuntime(GrpcWorkerAgentRuntime):
    """AutoGen's member runtime on links that are replaced when they are lost.

    Agents are registered as always, before or after :meth:`start`. Events published while the link is down are dropped:
    what must arrive goes through a lane. ``on_link`` is called with True after every join, once the host knows all
    agents and subscriptions, and with False after every loss.

    It has 14 attributes because AutoGen's base reads the link's state here.
    """

    def __init__(self, settings: FleetSettings, on_link: Callable[[bool], None]) -> None:
        # gRPC's core would write a line of its own about every failed attempt to join, once a second.
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")
        super().__init__(str(settings.host), payload_serialization_format=PROTOBUF_DATA_CONTENT_TYPE)
        self._settings = settings
        self._on_link = on_link
        self._link: Link | None = None
        self._relay: Relay | None = None
        self._host_connection = AWAY
        self._keeper: asyncio.Task[None] | None = None
        self._diagnosis = Diagnosis()
        self._event_ids = itertools.count(1)
        self._key = secrets.token_urlsafe(24)
        self._stamp = b""
        self._repeats = Repeats()
        self._receivers: dict[str, Callable[[bytes], None]] = {}
        """By the message's full name."""
        self.losses = 0
        """How often the link was lost."""

    @property
    def linked(self) -> bool:
        return self._link is not None

    @property
    def relayed(self) -> bool:
        """Whether events pass by the relay now."""
        return self._relay is not None

    async def start(self) -> None:
        """Begin to keep a link to the host. Does not wait for it."""
        if self._running:
            raise ValueError("Runtime is already running.")
        self._running = True
        self._keeper = asyncio.create_task(self._keep_link())

    async def stop(self) -> None:
        """Leave the host once it has handled all that was published, or after :data:`LEAVE_TIMEOUT` seconds."""
        self._running = False
        if self._keeper is None:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LEAVE_TIMEOUT):
                await self._leave(self._keeper)
        self._keeper.cancel()
        await asyncio.gather(self._keeper, return_exceptions=True)
        self._keeper = None

    async def _leave(self, keeper: asyncio.Task[None]) -> None:
        """End the relay before the stream, whose end makes the host forget the member."""
        if self._relay is not None:
            await self._relay.ask(relay.PING)
        if self._link is not None:
            self._link.finish()
            await asyncio.wait({keeper})

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
        """Pass every event of this ``kind``, from any topic, in order to ``receive`` instead of to an agent.

        For frequent messages: an agent's task, copy and log text cost more than handling the message. A message of more
        than ``largest`` bytes is dropped before it is parsed.
        """
        parse = kind.FromString

        def parse_and_receive(payload: bytes) -> None:
            if len(payload) <= largest:
                receive(parse(payload))
            elif self._repeats.is_new("large", kind.DESCRIPTOR.name):
                log.warning("dropped a message that is too large", kind=kind.DESCRIPTOR.name, bytes=len(payload))

        self._receivers[kind.DESCRIPTOR.full_name] = parse_and_receive

    async def add_subscription(self, subscription: Subscription) -> None:
        await self._subscription_manager.add_subscription(subscription)
        if self._link is not None:
            await self._link.subscribe(subscription)

    async def _register_agent_type(self, agent_type: str) -> None:
        if (member := topics.member(agent_type)) is not None:
            self._stamp = relay.stamp(member[1])
        if self._link is not None:
            await self._link.register(agent_type)

    # ------------------------------------------------------------ the link's life

    async def _keep_link(self) -> None:
        """Join, serve until the link ends, join again. Each new reason for failing is logged once."""
        delay, logged = 0.0, ""
        while self._running:
            await asyncio.sleep(delay * random.uniform(0.5, 1))  # noqa: S311
            try:
                link = await self._join()
            except Exception as error:  # whatever it is, the member must go on trying
                reason = await self._reason_of(error)
                if reason != logged:
                    logged = reason
                    log.warning("cannot join the host, trying on", host=self._host_address, reason=reason)
                delay = min(max(RETRY_FIRST, delay * 2), RETRY_LAST)
                continue
            logged, joined_at = "", time.monotonic()
            try:
                await self._serve(link)
            except Exception as error:  # as above
                log.error("the link failed, joining again", exc_info=error)
            finally:
                await _close(link)
            steady = time.monotonic() - joined_at >= STEADY
            delay = 0.0 if steady else min(max(RETRY_FIRST, delay * 2), RETRY_LAST)

    async def _reason_of(self, error: Exception) -> str:
        unreachable = isinstance(error, grpc.RpcError) and error.code() == grpc.StatusCode.UNAVAILABLE
        if not unreachable and not isinstance(error, TimeoutError):
            return reason_of(error)
        return await self._diagnosis.refusal(self._settings.host, self._settings.identity()) or reason_of(error)

    async def _join(self) -> Link:
        async with asyncio.timeout(DIAL_TIMEOUT):
            link = await Link.dial(self._settings, self._key)
            try:
                for agent_type in list(self._agent_factories):
                    await link.register(agent_type)
                for subscription in list(self._subscription_manager.subscriptions):
                    await _subscribe(link, subscription)
            except BaseException:
                await _close(link)
                raise
            return link

    async def _serve(self, link: Link) -> None:
        self._link = self._host_connection = link
        log.info("joined the host", host=self._host_address)
        reason = ""
        connections = [asyncio.create_task(self._read(link)), asyncio.create_task(self._keep_relay(link))]
        try:
            self._on_link(True)
            ended, _ = await asyncio.wait(connections, return_when=asyncio.FIRST_COMPLETED)
            first = next(iter(ended))
            reason = "cancelled" if first.cancelled() else first.result()
        finally:
            self._link, self._host_connection = None, AWAY
            for connection in connections:
                connection.cancel()
            await asyncio.gather(*connections, return_exceptions=True)
            self._on_link(False)
        if self._running:
            self.losses += 1
            log.warning("lost the host", host=self._host_address, reason=reason)

    async def _read(self, link: Link) -> str:
        """Receive from the gRPC stream until it ends, and return why it did."""
        try:
            while (message := await link.read()) is not None:
                self._receive(message)
        except grpc.RpcError as error:
            return reason_of(error)
        return "closed by the host"

    async def _keep_relay(self, link: Link) -> str:
        """Open the relay and return when it is lost. Until the host accepts it, events pass by gRPC."""
        try:
            offered = await link.relay()
        except grpc.RpcError as error:
            return reason_of(error)
        logged = False
        while offered is not None:
            try:
                async with asyncio.timeout(DIAL_TIMEOUT):
                    opened = await self._open_relay(*offered)
            except Exception as error:  # whatever it is, events can pass by gRPC
                if not logged:
                    logged = True
                    log.warning("no relay, events pass by gRPC", port=offered[0], reason=reason_of(error))
                await asyncio.sleep(RELAY_RETRY)
                continue
            self._relay = opened
            try:
                await asyncio.shield(opened.closed)  # a cancelled wait must not cancel the relay's own future
            finally:
                self._relay = None
                opened.close()
            return "its relay was closed"
        await asyncio.get_running_loop().create_future()  # until the stream ends
        raise AssertionError

    async def _open_relay(self, port: int, ticket: str) -> Relay:
        identity = self._settings.identity()
        return await relay.dial(
            (self._settings.host.host, port),
            identity.context() if identity is not None else None,
            ticket,
            lambda: Relay(self._relayed, MESSAGE_BYTES, KEEPALIVE_TIME, KEEPALIVE_TIMEOUT),
        )

    # ------------------------------------------------------------ what arrives

    def _receive(self, message: agent_worker_pb2.Message) -> None:
        if message.WhichOneof("message") != "cloudEvent":
            return  # no member of the fleet sends anything else
        payload = message.cloudEvent.proto_data
        self._dispatch(payload.type_url.removeprefix(TYPE_URL), payload.value, lambda: message.cloudEvent)

    def _relayed(self, frame: bytes) -> None:
        try:
            _, kind, payload = relay.unpack(frame)
        except ValueError as error:
            self._not_understood("a frame that is not valid", error)
        else:
            self._dispatch(kind, payload, lambda: event_of(frame))

    def _dispatch(self, kind: str, payload: bytes, whole: Callable[[], cloudevent_pb2.CloudEvent]) -> None:
        """Pass an event to the receiver of its kind, or to the agents that know it, if there are any."""
        receive = self._receivers.get(kind)
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


async def _subscribe(link: Link, subscription: Subscription) -> None:
    try:
        await link.subscribe(subscription)
    except grpc.aio.AioRpcError as error:
        # A host of the version before lets no gateway hear the others.
        if error.code() != grpc.StatusCode.PERMISSION_DENIED or not subscription.is_match(topics.GATEWAYS):
            raise


async def _close(link: Link) -> None:
    try:
        await link.close()
    except Exception as error:  # it is gone in any case
        log.debug("a link did not close", reason=type(error).__name__)
