"""A member's link to the host: AutoGen's runtime that starts before the host, and comes back after it.

AutoGen 0.7.5's ``GrpcWorkerAgentRuntime`` fails to start without a host and publishes into nothing after its loss.
:class:`FleetRuntime` keeps one link after another alive under the same agents and subscriptions. Parts of AutoGen that
are private and used here: ``HostConnection``, ``_host_connection``, ``_running``, ``_background_tasks``,
``_process_event``, ``_agent_factories``, ``_register_agent_type``, ``_subscription_manager``,
``_serialization_registry``; ``tests/unit/test_autogen_private.py`` fails when one changes.
"""

import asyncio
import itertools
import os
import random
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import grpc
from autogen_core import PROTOBUF_DATA_CONTENT_TYPE, AgentId, CancellationToken, Subscription, TopicId
from autogen_ext.runtimes.grpc import GrpcWorkerAgentRuntime
from autogen_ext.runtimes.grpc import _constants as attribute
from autogen_ext.runtimes.grpc._utils import subscription_to_proto
from autogen_ext.runtimes.grpc._worker_runtime import HostConnection, QueueAsyncIterable
from autogen_ext.runtimes.grpc.protos import agent_worker_pb2, agent_worker_pb2_grpc, cloudevent_pb2
from google.protobuf import any_pb2
from google.protobuf.message import Message

from fleet import logs
from fleet.security import diagnosis
from fleet.security.identity import IdentityError
from fleet.security.tokens import TokenError
from fleet.settings import FleetSettings

log = logs.logger(__name__)

MESSAGE_BYTES = 32 * 1024 * 1024
"""Largest message on the bus. A larger one would end the sender's whole stream, so senders stay far below."""

KEEPALIVE_TIME = 3.0
KEEPALIVE_TIMEOUT = 7.0
"""Seconds of silence until a ping, and from the ping until the peer is given up: a dead peer is noticed within 10 s, a
process that stands still for less than 7 s is not taken for dead."""

RETRY_FIRST = 0.05
RETRY_LAST = 1.0
"""Seconds between attempts to reach the host, doubled from first to last, each shortened by chance by up to half."""

DIAGNOSE_EVERY = 3.0
"""Seconds between two looks at why the host cannot be joined."""

DIAL_TIMEOUT = 5.0
"""Seconds for one attempt to reach the host and to register."""


TYPE_URL = "type.googleapis.com/"
"""Before a message's full name, in the events that carry it."""

MessageT = TypeVar("MessageT", bound=Message)


def channel_options() -> list[tuple[str, int]]:
    """gRPC options that host and members share: size limits, and keepalive in both directions."""
    return [
        ("grpc.max_send_message_length", MESSAGE_BYTES),
        ("grpc.max_receive_message_length", MESSAGE_BYTES),
        ("grpc.keepalive_time_ms", int(KEEPALIVE_TIME * 1000)),
        ("grpc.keepalive_timeout_ms", int(KEEPALIVE_TIMEOUT * 1000)),
        ("grpc.http2.ping_timeout_ms", int(KEEPALIVE_TIMEOUT * 1000)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.enable_http_proxy", 0),
        # Every dial is a fresh try: gRPC must not keep one address's failures for the next channel.
        ("grpc.use_local_subchannel_pool", 1),
    ]


def open_channel_to_host(settings: FleetSettings) -> Any:
    """A channel to the host, with TLS where it is set; nothing is connected yet. Raises ``IdentityError``."""
    address, options = str(settings.host), channel_options()
    identity = settings.identity()
    if identity is None:
        return grpc.aio.insecure_channel(address, options=options)
    return grpc.aio.secure_channel(address, identity.channel_credentials(), options=options)


def event(message: Message, topic: TopicId, event_id: str, sender: AgentId | None = None) -> cloudevent_pb2.CloudEvent:
    """``message`` as the event that AutoGen's runtime carries (its PROTOBUF payload format)."""
    payload = any_pb2.Any()
    payload.Pack(message)
    value = cloudevent_pb2.CloudEvent.CloudEventAttributeValue
    return cloudevent_pb2.CloudEvent(
        id=event_id,
        spec_version="1.0",
        type=topic.type,
        source=topic.source,
        attributes={
            attribute.DATA_CONTENT_TYPE_ATTR: value(ce_string=PROTOBUF_DATA_CONTENT_TYPE),
            attribute.DATA_SCHEMA_ATTR: value(ce_string=message.DESCRIPTOR.full_name),
            attribute.AGENT_SENDER_TYPE_ATTR: value(ce_string=sender.type if sender else "unknown"),
            attribute.AGENT_SENDER_KEY_ATTR: value(ce_string=sender.key if sender else "unknown"),
            attribute.MESSAGE_KIND_ATTR: value(ce_string=attribute.MESSAGE_KIND_VALUE_PUBLISH),
        },
        proto_data=payload,
    )


_END: Any = object()


class _Outgoing(QueueAsyncIterable):
    """What the link sends. It ends, as AutoGen's never does, so that the task in which gRPC reads it ends too."""

    async def __anext__(self) -> Any:
        message = await super().__anext__()
        if message is _END:
            raise StopAsyncIteration
        return message


class Link(HostConnection):
    """One connection to the host, from dialling to its end. Unlike its base it never formats a message for a log."""

    def __init__(self, channel: Any, stub: Any, token: str | None) -> None:
        super().__init__(channel, stub)
        self._token = token
        self._stream: Any = None

    @property
    def metadata(self) -> Sequence[tuple[str, str]]:
        """What every call carries: who calls, and the fleet's token."""
        known = [("client-id", self._client_id)]
        return [*known, ("authorization", f"Bearer {self._token}")] if self._token else known

    @classmethod
    async def dial(cls, settings: FleetSettings) -> "Link":
        """Open a link; certificate and token are read anew for each.

        Raises ``grpc.RpcError``, ``TimeoutError`` or ``IdentityError``; nothing is left open then.
        """
        token = settings.tokens().own()
        channel = open_channel_to_host(settings)
        stub = agent_worker_pb2_grpc.AgentRpcStub(channel)
        link = cls(channel, stub, token)
        try:
            open_channel: Any = stub.OpenChannel
            link._stream = open_channel(_Outgoing(link._send_queue), metadata=link.metadata)
            await link._stream.wait_for_connection()
        except BaseException:
            await link.close()
            raise
        return link

    def put(self, message: agent_worker_pb2.Message) -> None:
        """Queue a message for the host. The lanes' windows bound what waits here."""
        self._send_queue.put_nowait(message)

    async def send(self, message: agent_worker_pb2.Message) -> None:
        """As :meth:`put`, for AutoGen's own calls."""
        self.put(message)

    async def read(self) -> agent_worker_pb2.Message | None:
        """The next message; None at the end. Raises ``grpc.RpcError`` when the connection broke."""
        message = await self._stream.read()
        return None if message is grpc.aio.EOF else message

    async def close(self) -> None:
        """End the connection at once."""
        self._send_queue.put_nowait(_END)
        await self._channel.close()


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
        self._host_connection = _AWAY
        self._keeper: asyncio.Task[None] | None = None
        self._event_ids = itertools.count(1)
        self._shortcuts: dict[str, Callable[[bytes], None]] = {}

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
        if self._link is not None:
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

    def shortcut(self, kind: type[MessageT], receive: Callable[[MessageT], None]) -> None:
        """Hand every event of this ``kind`` straight to ``receive``, in the order of arrival, instead of to an agent.

        For the messages that come by the hundred a second: a task, a copy and a log text for each cost more than what
        is done with them. Whatever topic of ours they came on, no agent sees them.
        """
        parse = kind.FromString
        self._shortcuts[TYPE_URL + kind.DESCRIPTOR.full_name] = lambda payload: receive(parse(payload))

    async def add_subscription(self, subscription: Subscription) -> None:
        """Subscribe, now and on every later link."""
        await self._subscription_manager.add_subscription(subscription)
        if self._link is not None:
            await self._subscribe(self._link, subscription)

    async def _register_agent_type(self, agent_type: str) -> None:
        if self._link is not None:
            await self._register(self._link, agent_type)

    async def _register(self, link: Link, agent_type: str) -> None:
        request = agent_worker_pb2.RegisterAgentTypeRequest(type=agent_type)
        await link.stub.RegisterAgent(request, metadata=link.metadata)

    async def _subscribe(self, link: Link, subscription: Subscription) -> None:
        request = agent_worker_pb2.AddSubscriptionRequest(subscription=subscription_to_proto(subscription))
        await link.stub.AddSubscription(request, metadata=link.metadata)

    async def _keep_link(self) -> None:
        """Join, serve until the link ends, join again; each new reason for failing is said once."""
        delay = RETRY_FIRST
        said = ""
        while True:
            try:
                link = await self._join()
            except Exception as error:  # whatever it is, a member that stopped trying would be lost without a word
                reason = await self._why(error)
                if reason != said:
                    said = reason
                    log.warning("cannot join the host, trying on", host=self._host_address, reason=reason)
                await asyncio.sleep(delay * random.uniform(0.5, 1))  # noqa: S311
                delay = min(delay * 2, RETRY_LAST)
                continue
            delay, said = RETRY_FIRST, ""
            try:
                await self._serve(link)
            finally:
                await link.close()

    async def _why(self, error: Exception) -> str:
        """Why joining failed; for a connection that was not to be had, what TLS has to do with it."""
        unreachable = isinstance(error, grpc.RpcError) and error.code() == grpc.StatusCode.UNAVAILABLE
        if not unreachable and not isinstance(error, TimeoutError):
            return _reason(error)
        now = time.monotonic()
        if now >= self._diagnose_at:
            self._diagnose_at = now + DIAGNOSE_EVERY
            try:
                self._diagnosis = await diagnosis.refusal(self._settings.host, self._settings.identity())
            except Exception as trouble:  # a diagnosis must not end the tries
                log.debug("no diagnosis", reason=type(trouble).__name__)
        return self._diagnosis or _reason(error)

    async def _join(self) -> Link:
        async with asyncio.timeout(DIAL_TIMEOUT):
            link = await Link.dial(self._settings)
            try:
                for agent_type in list(self._agent_factories):
                    await self._register(link, agent_type)
                for subscription in list(self._subscription_manager.subscriptions):
                    await self._subscribe(link, subscription)
            except BaseException:
                await link.close()
                raise
            return link

    async def _serve(self, link: Link) -> None:
        self._link = self._host_connection = link
        log.info("joined the host", host=self._host_address)
        reason = "closed by the host"
        try:
            self._on_link(True)
            while (message := await link.read()) is not None:
                self._receive(message)
        except grpc.RpcError as error:
            reason = _reason(error)
        finally:
            self._link, self._host_connection = None, _AWAY
            self._on_link(False)
        log.warning("lost the host", host=self._host_address, reason=reason)

    def _receive(self, message: agent_worker_pb2.Message) -> None:
        if message.WhichOneof("message") != "cloudEvent":
            return  # nobody in the fleet sends anything else
        payload = message.cloudEvent.proto_data
        receive = self._shortcuts.get(payload.type_url)
        if receive is None:
            task = asyncio.create_task(self._process_event(message.cloudEvent))
            self._background_tasks.add(task)
            task.add_done_callback(self._processed)
            return
        try:
            receive(payload.value)
        except Exception as error:
            log.error("an event was not understood", exc_info=error)

    def _processed(self, task: asyncio.Task[Any]) -> None:
        self._background_tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("an event was not understood", exc_info=error)


def _reason(error: BaseException) -> str:
    """Why joining failed or the link ended, in few words; the same cause gives the same words."""
    if isinstance(error, IdentityError | TokenError):
        return str(error)
    if isinstance(error, grpc.aio.AioRpcError):
        details = (error.details() or "").partition(";")[0]
        return f"{error.code().name.lower()}: {details}"
    return "no answer" if isinstance(error, TimeoutError) else type(error).__name__


class _Away(HostConnection):
    """Stands in while there is no connection: registering an agent only asks whether one is set."""

    def __init__(self) -> None:
        pass


_AWAY = _Away()
