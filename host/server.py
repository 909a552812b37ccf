"""The host's two ports: AutoGen's ``GrpcWorkerAgentRuntimeHost`` with limits, keepalive, TLS, token and health."""

import asyncio
from collections import Counter

import grpc
from autogen_ext.runtimes.grpc import GrpcWorkerAgentRuntimeHost
from autogen_ext.runtimes.grpc.protos import agent_worker_pb2_grpc

from fleet.bus.link import channel_options
from fleet.security.identity import Identity, IdentityError, ServerContext
from fleet.security.tokens import Tokens
from fleet.settings import HostPort
from host.forwarder import LOOPBACK, Forwarder
from host.health import HealthService
from host.interceptor import TokenInterceptor
from host.listener import Client, Listener
from host.member import Member
from host.member_relay import MemberRelay
from host.roles import STOCK_BYTES
from host.servicer import Servicer

HANDSHAKE_TIMEOUT = 10.0
"""Seconds that a member may take over its TLS handshake and the preface of HTTP/2."""

CALLS = 16
"""Calls that one connection may have open. A member has its stream and, while it joins, a few short ones."""
METADATA = 8 * 1024
"""Bytes of a call's metadata; a member's client id and token need 200."""

STOP_GRACE = 1
"""Seconds that members get to see the end of their streams before their connections are cut."""


class FleetHost(GrpcWorkerAgentRuntimeHost):
    """Listens from its construction on, for gRPC at ``address`` and for relays at ``relay_address``.

    With tokens it refuses members that carry none of them, with an identity those without TLS and a certificate.
    AutoGen's own members may send each other messages of ``largest`` bytes. Raises ``OSError`` when it cannot listen,
    :class:`IdentityError` for files that cannot be used.
    """

    def __init__(
        self,
        address: HostPort,
        relay_address: HostPort,
        tokens: Tokens,
        identity: Identity | None = None,
        largest: int = STOCK_BYTES,
    ) -> None:
        # The base's constructor would open a port without any of this, so its four attributes are set here.
        options = [
            *channel_options(),
            ("grpc.so_reuseport", 0),
            ("grpc.http2.min_ping_interval_without_data_ms", 500),
            ("grpc.http2.max_ping_strikes", 0),
            # Connections that never finish their handshake would hold a file descriptor for two minutes.
            ("grpc.server_handshake_timeout_ms", int(HANDSHAKE_TIMEOUT * 1000)),
            ("grpc.max_concurrent_streams", CALLS),
            ("grpc.http2.bdp_probe", 0),  # it would let a peer send more than 64 KiB of a call that is not read
            # No member compresses, and 30 KiB can inflate to a message of 32 MiB.
            ("grpc.per_message_compression", 0),
            ("grpc.per_message_decompression", 0),
            ("grpc.max_metadata_size", METADATA),
            ("grpc.absolute_max_metadata_size", METADATA),
        ]
        self._address = str(address)
        self._context = ServerContext(identity) if identity is not None else None
        self._forwarder = Forwarder(address)
        try:
            self._relays = Listener("HOST_RELAY_BIND", relay_address, self._relay)
        except OSError:
            self._forwarder.listener.close()
            raise
        interceptor = TokenInterceptor(tokens, self._forwarder.authenticated, self._forwarder.address)
        self._server = grpc.aio.server(options=options, interceptors=[interceptor])
        servicer = Servicer(tokens, self._forwarder.drop, self._relays.port, self._forwarder.address, largest)
        self._servicer: Servicer = servicer  # type: ignore[assignment]
        self._interceptor = interceptor
        self._serve_task: asyncio.Task[None] | None = None
        agent_worker_pb2_grpc.add_AgentRpcServicer_to_server(self._servicer, self._server)
        self._health = HealthService()
        self._server.add_generic_rpc_handlers((self._health.handler(),))
        inner = f"{LOOPBACK}:0"
        try:
            if identity is None:
                self._forwarder.server_port = self._server.add_insecure_port(inner)
            else:
                self._forwarder.server_port = self._server.add_secure_port(inner, identity.server_credentials())
        except (RuntimeError, IdentityError) as error:
            self._close_ports()
            if identity is not None and isinstance(error, RuntimeError):
                wanted = "gRPC takes RSA keys from 2048 bits, and ECDSA on P-256 or P-384"
                raise IdentityError(f"FLEET_TLS_KEY: {identity.key} cannot be listened with; {wanted}") from error
            raise

    @property
    def serving(self) -> asyncio.Task[None]:
        """Ends with the server: by itself only when it fails."""
        assert self._serve_task is not None, "the host was not started"
        return self._serve_task

    async def _serve(self) -> None:
        await self._server.start()
        async with asyncio.TaskGroup() as group:
            ports = [group.create_task(listener.serve()) for listener in (self._forwarder.listener, self._relays)]
            # Shielded, because a server whose wait was cancelled cannot be stopped any more.
            await asyncio.shield(self._server.wait_for_termination())
            for port in ports:
                port.cancel()

    @property
    def servicer(self) -> Servicer:
        return self._servicer

    @property
    def serves(self) -> bool:
        return self._health.serves and not self.serving.done()

    @property
    def pending(self) -> int:
        """Connections that have not authenticated, at both ports."""
        return self._forwarder.listener.pending + self._relays.pending

    def refusals(self) -> Counter[str]:
        """Members and connections that were refused, by a word for the reason."""
        refusals = self._servicer.counts.refusals + self._forwarder.listener.refusals + self._relays.refusals
        return refusals + Counter(token=self._interceptor.refused)

    @property
    def relay_port(self) -> int:
        return self._relays.port

    async def _relay(self, client: Client) -> None:
        def admit(ticket: str) -> Member | None:
            member = self._servicer.admit(ticket)
            if member is not None:
                self._relays.authenticated(client)
            return member

        relay = MemberRelay(admit, self._servicer.relayed)
        loop, context = asyncio.get_running_loop(), self._context() if self._context is not None else None
        await loop.connect_accepted_socket(lambda: relay, client.sock, ssl=context)
        await relay.closed

    def _close_ports(self) -> None:
        self._forwarder.listener.close()
        self._relays.close()

    async def stop(self, grace: int = STOP_GRACE) -> None:
        """End every stream and stop listening: at once when the members follow, after ``grace`` seconds at the latest.

        The base waits out its grace whenever a member is connected, because its streams never end by themselves, and
        raises what ended the server, if it has failed.
        """
        self._close_ports()
        self._health.serves = False
        self._servicer.close()
        await self._server.stop(grace)
        self.serving.cancel()
        await asyncio.gather(self.serving, return_exceptions=True)
