"""What an answer's format must be able to say; ``ndjson`` and ``openai`` have one each."""

from collections.abc import Iterable
from typing import Protocol

from fleet.process.turns import Steps
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

    def whole(self, events: Iterable[pb.ReplyEvent], end: Completed) -> Steps[bytes]:
        """A completed reply as one JSON object, in steps."""
