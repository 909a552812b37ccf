"""The host as a gRPC server: AutoGen's ``GrpcWorkerAgentRuntimeHost`` with limits, keepalive, TLS, token and health."""

import asyncio
from collections.abc import Callable

import grpc
from autogen_ext.runtimes.grpc import GrpcWorkerAgentRuntimeHost
from autogen_ext.runtimes.grpc.protos import agent_worker_pb2_grpc

from fleet.bus.link import channel_options
from fleet.security.identity import Identity, IdentityError, ServerContext
from fleet.security.tokens import Tokens
from fleet.settings import HostPort
from host.door import LOOPBACK, Door
from host.health import Health
from host.interceptor import TokenInterceptor
from host.member_relay import MemberEnd
from host.servicer import Connection, Servicer

HANDSHAKE_TIMEOUT = 10.0
"""Seconds that a member may take over its TLS handshake and the first words of HTTP/2."""

CALLS = 16
"""Calls that one connection may have open. A member has its stream and, while it joins, a few short ones."""
METADATA = 8 * 1024
"""Bytes of a call's metadata; a member's client id and token need 200."""

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
        try:
            self._door = Door(address, self._relay, HANDSHAKE_TIMEOUT)
        except OSError as error:
            raise OSError(f"cannot listen on {self._address}: {(error.strerror or str(error)).lower()}") from error
        interceptor = TokenInterceptor(tokens, self._door.authenticated, self._door.peer)
        self._server = grpc.aio.server(options=options, interceptors=[interceptor])
        self._servicer: Servicer = Servicer(tokens, self._door.hang_up)  # type: ignore[assignment]
        self._serve_task: asyncio.Task[None] | None = None
        agent_worker_pb2_grpc.add_AgentRpcServicer_to_server(self._servicer, self._server)
        self._health = Health()
        self._server.add_generic_rpc_handlers((self._health.handler(),))
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

    @property
    def serving(self) -> asyncio.Task[None]:
        """Ends with the server: by itself only when it fails."""
        assert self._serve_task is not None, "the host was not started"
        return self._serve_task

    async def _serve(self) -> None:
        await self._server.start()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._door.serve(self._inner_port))
            # Shielded, because a server whose wait was cancelled cannot be stopped any more.
            await asyncio.shield(self._server.wait_for_termination())
            self._door.close()

    def _relay(self, settled: Callable[[], None]) -> MemberEnd:
        def admit(ticket: str) -> Connection | None:
            member = self._servicer.admit(ticket)
            if member is not None:
                settled()
            return member

        end = MemberEnd(self._context, admit, self._servicer.relayed, HANDSHAKE_TIMEOUT)
        end.closed.add_done_callback(lambda _: settled())
        return end

    async def stop(self, grace: int = STOP_GRACE) -> None:
        """End every stream and stop listening: at once when the members take it, after ``grace`` seconds at the latest.

        The base waits out its grace whenever a member is connected, because its streams never end by themselves, and
        raises what ended the server, if it has failed.
        """
        self._door.close()
        self._health.serves = False
        self._servicer.close()
        await self._server.stop(grace)
        self.serving.cancel()
        await asyncio.gather(self.serving, return_exceptions=True)
