"""What a model does at each of its endpoints, as one service."""

from collections.abc import Mapping

from protos import chat_pb2 as pb
from worker.contract.errors import Unsupported
from worker.contract.sink import Sink
from worker.services.service import Service

CHAT = "chat"
PASSED_ON = ("completions", "embeddings")
"""The endpoints that models of OpenAI-compatible servers may have besides."""


class Endpoints:
    """Gives a request to the service of its endpoint."""

    def __init__(self, services: Mapping[str, Service]) -> None:
        self._services = services

    async def run(self, request: pb.ChatHistory, sink: Sink) -> pb.Done:
        """See :class:`worker.services.service.Service`."""
        endpoint = request.endpoint or CHAT
        service = self._services.get(endpoint)
        if service is None:
            has = ", ".join(self._services)
            raise Unsupported(f"model: {request.model[:100]!r} has no endpoint {endpoint[:100]!r}; it has {has}")
        running = service.run(request, sink)
        del request  # it must not be kept for as long as the reply takes
        return await running
