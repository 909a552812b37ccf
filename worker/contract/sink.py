"""What a reply is written to: the lane's sink, or one that collects it."""

from typing import Protocol

from fleet.lane import Producer
from protos import chat_pb2 as pb


class Sink(Protocol):
    """The part of :class:`fleet.lane.Sink` that services write to. Writing never waits."""

    def text(self, text: str, tokens: int = 1, source: str = "") -> None:
        """Write text that the model gave as ``tokens`` deltas. ``source`` speaks; empty is the service itself."""

    def reasoning(self, text: str, tokens: int = 1, source: str = "") -> None:
        """Write reasoning, as :meth:`text`."""

    def event(self, event: pb.ReplyEvent) -> None:
        """Write any other event."""

    def attach(self, producer: Producer | None) -> None:
        """Pause and resume ``producer`` from now on."""

    async def ready(self) -> None:
        """Wait until more may be written."""
