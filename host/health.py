"""The host's health: the standard gRPC service, and ``python -m host.health``, which asks it.

The command exits with 0 when the host serves. It runs every few seconds beside the host, so it reads the few settings
that it needs by itself: 0.15 s of CPU, not 0.4.
"""

import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from fleet.process import arguments

SERVICE = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
TIMEOUT = 5.0
EVERYWHERE = ("0.0.0.0", "[::]", "::")  # noqa: S104
OPTIONS = [("grpc.enable_http_proxy", 0)]


class Health:
    """Answers ``Check`` and ``Watch`` with the state of the whole host, and reads nothing of the request.

    Callers need no token, so the host must not hold anything for them: gRPC would read a message of up to 32 MiB before
    it calls a handler for one message. ``Watch`` ends after its first answer; the protocol makes clients ask again.
    """

    serves = True

    def handler(self) -> Any:
        answer: Any = grpc.stream_stream_rpc_method_handler(
            self._answer, response_serializer=health_pb2.HealthCheckResponse.SerializeToString
        )
        return grpc.method_handlers_generic_handler(SERVICE, {"Check": answer, "Watch": answer})

    async def _answer(self, _: Any, __: Any) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        states = health_pb2.HealthCheckResponse
        yield states(status=states.SERVING if self.serves else states.NOT_SERVING)


def channel() -> grpc.Channel:
    """To the host on this machine; with TLS its certificate must be good for where it listens, or for 127.0.0.1."""
    host, _, port = os.environ.get("HOST_BIND", "127.0.0.1:50051").rpartition(":")
    address = f"{'127.0.0.1' if host in EVERYWHERE else host}:{port}"
    names = {name: os.environ.get(name) for name in ("FLEET_TLS_CA", "FLEET_TLS_KEY", "FLEET_TLS_CERT")}
    files = [Path(path).read_bytes() for path in names.values() if path]
    if not files:
        return grpc.insecure_channel(address, OPTIONS)
    if len(files) < len(names):
        raise ValueError(f"{', '.join(names)} go together")
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(*files), OPTIONS)


def main() -> None:
    arguments.read("host.health", "Ask the host on this machine whether it serves: exit code 0 if so, else 1.")
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # the one line is ours
    try:
        with channel() as to_host:
            answer = health_pb2_grpc.HealthStub(to_host).Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT)
    except (OSError, ValueError, grpc.RpcError) as error:
        reason = error.code().name if isinstance(error, grpc.Call) else str(error)
        print(f"the host does not answer: {reason}", file=sys.stderr)
        raise SystemExit(1) from None
    raise SystemExit(0 if answer.status == health_pb2.HealthCheckResponse.SERVING else 1)


if __name__ == "__main__":
    main()
