"""The seam between a run and what it runs."""

from typing import Protocol

from protos import chat_pb2 as pb
from worker.contract.sink import Sink


class Service(Protocol):
    """Serves one public name: a model, an agent or a team."""

    async def run(self, request: pb.ChatHistory, sink: Sink) -> pb.Done:
        """Write the reply into ``sink`` and return how it ended, or raise; :mod:`worker.contract.failures` maps errors.

        Cancelling stops the work. ``request`` must not be kept once the work has begun.
        """
