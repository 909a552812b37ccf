"""A sink that records what is written to it."""

from collections.abc import Awaitable

import httpx2
import openai

from fleet.lane import Producer
from protos import chat_pb2 as pb
from worker.contract.errors import ModelReported, ProviderRefused, StreamBroken


class Recording:
    """Neighbouring text of one kind is joined, so that recordings of one stream are equal however it was cut."""

    def __init__(self) -> None:
        self.events: list[tuple[str, object]] = []
        self.tokens = 0
        self.end: object = None
        self.producer: Producer | None = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Recording) and (self.events, self.tokens, self.end) == (
            other.events,
            other.tokens,
            other.end,
        )

    def __repr__(self) -> str:
        return f"Recording({self.events!r}, {self.tokens}, {self.end!r})"

    async def of(self, writing: Awaitable[pb.Done]) -> None:
        """Wait for what is written, and record how it ends."""
        try:
            self.end = await writing
        except (StreamBroken, ModelReported, ProviderRefused, openai.APIError, httpx2.TransportError) as error:
            self.end = type(error), str(error)

    def add(self, event: pb.ReplyEvent) -> None:
        """Record an event as a gateway gets it."""
        match event.WhichOneof("event"):
            case "text":
                self.text(event.text, event.tokens)
            case "reasoning":
                self.reasoning(event.reasoning, event.tokens)
            case _:
                self.event(event)

    def text(self, text: str, tokens: int = 1, source: str = "") -> None:
        self._delta("text", text, tokens)

    def reasoning(self, text: str, tokens: int = 1, source: str = "") -> None:
        self._delta("reasoning", text, tokens)

    def _delta(self, kind: str, text: str, tokens: int) -> None:
        if not text:
            return
        text.encode()
        self.tokens += tokens
        if self.events and self.events[-1][0] == kind:
            text = f"{self.events.pop()[1]}{text}"
        self.events.append((kind, text))

    def event(self, event: pb.ReplyEvent) -> None:
        event.SerializeToString()
        kind = event.WhichOneof("event") or ""
        self.events.append((kind, getattr(event, kind)))

    def attach(self, producer: Producer | None) -> None:
        self.producer = producer

    async def ready(self) -> None:
        """Always."""
