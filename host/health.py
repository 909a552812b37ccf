"""``python -m host.health``: asks the host's health service, and exits with 0 when it serves."""

import sys

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from fleet.settings import FleetSettings, HostPort, load
from host.settings import HostSettings

TIMEOUT = 5.0
EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104


def main() -> None:
    """Ask the host on this machine; with TLS its certificate must be good for 127.0.0.1, or for where it listens."""
    identity = load(FleetSettings).identity()
    bind = load(HostSettings).bind
    address = str(HostPort("127.0.0.1", bind.port) if bind.host in EVERYWHERE else bind)
    with (
        grpc.secure_channel(address, identity.channel_credentials())
        if identity
        else grpc.insecure_channel(address) as channel
    ):
        stub = health_pb2_grpc.HealthStub(channel)
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT)
        except grpc.RpcError as error:
            print(f"the host does not answer: {error.code().name}", file=sys.stderr)
            raise SystemExit(1) from None
    raise SystemExit(0 if answer.status == health_pb2.HealthCheckResponse.SERVING else 1)


if __name__ == "__main__":
    main()
