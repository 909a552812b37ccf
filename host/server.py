"""The host as a gRPC server: AutoGen's ``GrpcWorkerAgentRuntimeHost`` with limits, keepalive, TLS, token and health."""

import asyncio

import grpc
from autogen_ext.runtimes.grpc import GrpcWorkerAgentRuntimeHost
from autogen_ext.runtimes.grpc.protos import agent_worker_pb2_grpc
from grpc_health.v1 import health, health_pb2_grpc

from fleet import ports
from fleet.runtime import channel_options
from fleet.security.identity import Identity, IdentityError
from fleet.security.tokens import Tokens
from fleet.settings import HostPort
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
        self._server = grpc.aio.server(options=options, interceptors=[TokenInterceptor(tokens)] if tokens else [])
        self._servicer: Servicer = Servicer()
        self._address = str(address)
        self._serve_task: asyncio.Task[None] | None = None
        agent_worker_pb2_grpc.add_AgentRpcServicer_to_server(self._servicer, self._server)
        self.health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self.health, self._server)
        try:
            ports.check(address)
            if identity is None:
                self._server.add_insecure_port(self._address)
            else:
                self._server.add_secure_port(self._address, identity.server_credentials())
        except OSError as error:
            raise OSError(f"cannot listen on {self._address}: {(error.strerror or str(error)).lower()}") from error
        except RuntimeError as error:
            if identity is not None:
                wanted = "gRPC takes RSA keys from 2048 bits, and ECDSA on P-256 or P-384"
                raise IdentityError(f"FLEET_TLS_KEY: {identity.key} cannot be listened with; {wanted}") from error
            raise OSError(f"cannot listen on {self._address}") from error

    async def stop(self, grace: int = STOP_GRACE) -> None:
        """End every stream and stop listening: at once when the members take it, after ``grace`` seconds at the latest.

        The base waits out its grace whenever a member is connected, because its streams never end by themselves.
        """
        await self.health.enter_graceful_shutdown()
        self._servicer.close()
        await super().stop(grace)
