"""The port of a format: what turns a reply into bytes."""

from typing import Protocol

from starlette.responses import Response

from gateway.chats.reply import Completed, End, Piece
from gateway.errors import GatewayError


class Encoder(Protocol):
    """One answer in one format. Each result is one HTTP chunk."""

    media_type: str
    """Of a streamed answer; a whole one is JSON."""

    ping: bytes
    """What may be sent during silence; empty for a format that has no such thing."""

    def piece(self, piece: Piece) -> bytes:
        """A piece of the reply."""
        ...

    def text(self, text: str) -> bytes:
        """As :meth:`piece`, of text alone."""
        ...

    def end(self, end: End) -> bytes:
        """How the reply ends."""
        ...

    def whole(self, pieces: list[Piece], end: Completed) -> bytes:
        """A completed reply as one JSON object."""
        ...

    def refusal(self, error: GatewayError) -> Response:
        """An error instead of any reply."""
        ...
