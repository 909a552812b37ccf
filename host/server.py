"""The host as a gRPC server: AutoGen's ``GrpcWorkerAgentRuntimeHost`` with limits, keepalive, TLS, token and health."""

import asyncio

import grpc
from autogen_ext.runtimes.grpc import GrpcWorkerAgentRuntimeHost
from autogen_ext.runtimes.grpc.protos import agent_worker_pb2_grpc
from grpc_health.v1 import health, health_pb2_grpc

from fleet.link import channel_options
from fleet.security.identity import Identity, IdentityError, ServerContext
from fleet.security.tokens import Tokens
from fleet.settings import HostPort
from host.door import LOOPBACK, Door
from host.relay import MemberEnd
from host.servicer import Servicer
from host.tokens import TokenInterceptor

HANDSHAKE_TIMEOUT = 10.0
"""Seconds that a member may take over its TLS handshake and the first words of HTTP/2."""

STOP_GRACE = 1
"""Seconds that members get to take the end of their streams before their connections are cut."""


class FleetHost(GrpcWorkerAgentRuntimeHost):
    """Binds at construction; raises ``OSError`` when the address cannot be had, ``IdentityError`` for unusable files.

    With tokens it refuses members that carry none of them, with an identity those without TLS and a certificate.
    """

    def __init__(self, address: HostPort, tokens: Tokens, identity: Identity | None = None) -> None:
        # The base's constructor would open a port without any of this, so its four attributes are set here.
        options = [
            *channel_options(),
            ("grpc.so_reuseport", 0),
            ("grpc.http2.min_ping_interval_without_data_ms", 500),
            ("grpc.http2.max_ping_strikes", 0),
            # Connections that never finish their handshake would hold a file descriptor for two minutes.
            ("grpc.server_handshake_timeout_ms", int(HANDSHAKE_TIMEOUT * 1000)),
        ]
        self._address = str(address)
        self._context = ServerContext(identity) if identity is not None else None
        try:
            self._door = Door(address, self._relay, HANDSHAKE_TIMEOUT)
        except OSError as error:
            raise OSError(f"cannot listen on {self._address}: {(error.strerror or str(error)).lower()}") from error
        interceptors = [TokenInterceptor(tokens, self._door.peer)] if tokens else []
        self._server = grpc.aio.server(options=options, interceptors=interceptors)
        self._servicer: Servicer = Servicer(tokens, self._door.hang_up)  # type: ignore[assignment]
        self._serve_task: asyncio.Task[None] | None = None
        agent_worker_pb2_grpc.add_AgentRpcServicer_to_server(self._servicer, self._server)
        self.health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self.health, self._server)
        inner = f"{LOOPBACK}:0"
        try:
            if identity is None:
                self._inner_port = self._server.add_insecure_port(inner)
            else:
                self._inner_port = self._server.add_secure_port(inner, identity.server_credentials())
        except (RuntimeError, IdentityError) as error:
            self._door.close()
            if identity is not None and isinstance(error, RuntimeError):
                wanted = "gRPC takes RSA keys from 2048 bits, and ECDSA on P-256 or P-384"
                raise IdentityError(f"FLEET_TLS_KEY: {identity.key} cannot be listened with; {wanted}") from error
            raise

    async def _serve(self) -> None:
        await self._server.start()
        await self._door.open(self._inner_port)
        await self._server.wait_for_termination()

    def _relay(self) -> MemberEnd:
        return MemberEnd(self._context, self._servicer.admit, self._servicer.relayed, HANDSHAKE_TIMEOUT)

    async def stop(self, grace: int = STOP_GRACE) -> None:
        """End every stream and stop listening: at once when the members take it, after ``grace`` seconds at the latest.

        The base waits out its grace whenever a member is connected, because its streams never end by themselves.
        """
        self._door.close()
        await self.health.enter_graceful_shutdown()
        self._servicer.close()
        await super().stop(grace)
