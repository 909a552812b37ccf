"""The host's health as the standard gRPC service, for whoever watches by gRPC."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
from grpc_health.v1 import health_pb2

SERVICE = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name


class HealthService:
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
