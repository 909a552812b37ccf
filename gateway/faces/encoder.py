"""What an answer's format must be able to say; ``ndjson`` and ``openai`` have one each."""

from collections.abc import Sequence
from typing import Protocol

from gateway.chats.reply import Completed, End
from protos import chat_pb2 as pb


class Encoder(Protocol):
    """One answer in one format. The bytes of each result are one HTTP chunk; no bytes, no chunk."""

    media_type: str
    """Of a streamed answer; a whole one is JSON."""

    def begin(self) -> bytes:
        """What follows the status line of a streamed answer at once."""

    def event(self, event: pb.ReplyEvent) -> bytes:
        """One event of the reply; empty for kinds that the format does not express."""

    def end(self, end: End) -> bytes:
        """What follows the last event. The connection is cut where there is nothing to say of an error."""

    def ping(self) -> bytes:
        """What is sent during silence, and says nothing; empty where the format has no such thing, or not now."""

    def whole(self, events: Sequence[pb.ReplyEvent], end: Completed) -> bytes:
        """A completed reply as one JSON object."""


def join_calls(events: Sequence[pb.ReplyEvent]) -> list[pb.ToolCall]:
    """The client's tool calls that the parts in a reply make, in the order of their index."""
    parts: dict[int, list[pb.ToolCall]] = {}
    for event in events:
        if event.HasField("tool_call") and not event.source:
            parts.setdefault(event.tool_call.index, []).append(event.tool_call)
    return [
        pb.ToolCall(
            index=index,
            id="".join([part.id for part in calls]),
            name="".join([part.name for part in calls]),
            arguments="".join([part.arguments for part in calls]),
        )
        for index, calls in sorted(parts.items())
    ]
