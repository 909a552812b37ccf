"""One connection of a member to the host by gRPC, from dialling to its end."""

from collections.abc import Sequence
from typing import Any

import grpc
from autogen_core import Subscription
from autogen_ext.runtimes.grpc._utils import subscription_to_proto
from autogen_ext.runtimes.grpc._worker_runtime import HostConnection, QueueAsyncIterable
from autogen_ext.runtimes.grpc.protos import agent_worker_pb2, agent_worker_pb2_grpc

from fleet.bus import relay
from fleet.bus.relay import RelayRefused
from fleet.security.identity import IdentityError
from fleet.security.tokens import TokenError
from fleet.settings import FleetSettings

MESSAGE_BYTES = 32 * 1024 * 1024
"""Largest message on the bus. A larger one would end the sender's stream."""

KEEPALIVE_TIME = 3.0
KEEPALIVE_TIMEOUT = 7.0
"""Seconds of silence until a ping, and from the ping until the peer is given up. A dead peer is noticed within 10 s; a
process that is stopped for less than 7 s keeps its link."""

GRPC_TIMEOUT = 10.0
"""The same timeout for a member's pings over gRPC, whose answers wait behind large messages of other members. A member
without a relay must notice a dead host before the others give it up: ``WORKER_GATEWAY_TIMEOUT`` is 15 s."""

CLIENT_ID = "client-id"
"""Metadata that names the link of a call. Each link has its own id."""

MEMBER_KEY = "chatfleet-member-key"
"""Metadata that proves on a new link that a member id is the member's own: one secret for each process."""


def channel_options(ping_timeout: float = KEEPALIVE_TIMEOUT) -> list[tuple[str, int]]:
    return [
        ("grpc.max_send_message_length", MESSAGE_BYTES),
        ("grpc.max_receive_message_length", MESSAGE_BYTES),
        ("grpc.keepalive_time_ms", int(KEEPALIVE_TIME * 1000)),
        ("grpc.keepalive_timeout_ms", int(ping_timeout * 1000)),
        ("grpc.http2.ping_timeout_ms", int(ping_timeout * 1000)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.enable_http_proxy", 0),
        # Otherwise a new channel inherits the back-off of the last one to the same address.
        ("grpc.use_local_subchannel_pool", 1),
    ]


def open_channel_to_host(settings: FleetSettings) -> Any:
    """A channel to the host, with TLS where it is set; nothing is connected yet. Raises ``IdentityError``."""
    address, options = str(settings.host), channel_options(GRPC_TIMEOUT)
    identity = settings.identity()
    if identity is None:
        return grpc.aio.insecure_channel(address, options=options)
    return grpc.aio.secure_channel(address, identity.channel_credentials(), options=options)


_END: Any = object()


class _Outgoing(QueueAsyncIterable):
    """What the link sends. Unlike AutoGen's it can end, and with it the task in which gRPC reads it."""

    async def __anext__(self) -> Any:
        message = await super().__anext__()
        if message is _END:
            raise StopAsyncIteration
        return message


class Link(HostConnection):
    """One connection to the host. Unlike its base it never formats a message for a log."""

    def __init__(self, channel: Any, stub: Any, token: str | None, key: str) -> None:
        super().__init__(channel, stub)
        self._token = token
        self._key = key
        self._stream: Any = None

    @property
    def metadata(self) -> Sequence[tuple[str, str]]:
        known = [(CLIENT_ID, self._client_id), (MEMBER_KEY, self._key)]
        return [*known, ("authorization", f"Bearer {self._token}")] if self._token else known

    @classmethod
    async def dial(cls, settings: FleetSettings, key: str) -> "Link":
        """Open a link of the member with this :data:`key <MEMBER_KEY>`. Certificate and token are read again each time.

        Raises ``grpc.RpcError``, ``TimeoutError`` or ``IdentityError``, and leaves nothing open then.
        """
        token = settings.tokens().own()
        channel = open_channel_to_host(settings)
        stub = agent_worker_pb2_grpc.AgentRpcStub(channel)
        link = cls(channel, stub, token, key)
        try:
            open_channel: Any = stub.OpenChannel
            link._stream = open_channel(_Outgoing(link._send_queue), metadata=link.metadata)
            await link._stream.wait_for_connection()
        except BaseException:
            await link.close()
            raise
        return link

    async def register(self, agent_type: str) -> None:
        request = agent_worker_pb2.RegisterAgentTypeRequest(type=agent_type)
        await self.stub.RegisterAgent(request, metadata=self.metadata)

    async def subscribe(self, subscription: Subscription) -> None:
        request = agent_worker_pb2.AddSubscriptionRequest(subscription=subscription_to_proto(subscription))
        await self.stub.AddSubscription(request, metadata=self.metadata)

    def put(self, message: agent_worker_pb2.Message) -> None:
        self._send_queue.put_nowait(message)

    async def send(self, message: agent_worker_pb2.Message) -> None:
        self.put(message)

    async def read(self) -> agent_worker_pb2.Message | None:
        """The next message; None at the end. Raises ``grpc.RpcError`` when the connection broke."""
        message = await self._stream.read()
        return None if message is grpc.aio.EOF else message

    async def relay(self) -> tuple[int, str] | None:
        """The host's port for relays and this member's ticket; None from a host that offers no relay."""
        told = {key: str(value) for key, value in await self._stream.initial_metadata() or ()}
        if relay.PORT not in told or relay.TICKET not in told:
            return None
        return int(told[relay.PORT]), told[relay.TICKET]

    def finish(self) -> None:
        """End the stream after what is queued. The host ends its side once it has handled all of it."""
        self._send_queue.put_nowait(_END)

    async def close(self) -> None:
        self.finish()
        await self._channel.close()


def reason_of(error: BaseException) -> str:
    """Why joining failed or the link ended, in few words; the same cause gives the same words."""
    if isinstance(error, IdentityError | TokenError | RelayRefused):
        return str(error)
    if isinstance(error, grpc.aio.AioRpcError):
        details = (error.details() or "").partition(";")[0]
        return f"{error.code().name.lower()}: {details}"
    return "no answer" if isinstance(error, TimeoutError) else type(error).__name__


AWAY: Any = object()
"""Stands in for a connection while there is none: AutoGen's registration only checks that one is set."""
