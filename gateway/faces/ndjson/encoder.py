"""The seed's format: one JSON object a line and a line a chunk, each with ``content``; the last says how it ended."""

from typing import Any

from starlette.responses import Response

from gateway.chats.reply import Completed, End, Piece, join_calls
from gateway.errors import GatewayError, usage
from gateway.faces.line import dumps, dumps_text
from gateway.faces.ndjson.refusal import error_response
from protos import chat_pb2 as pb


class Ndjson:
    """See :class:`gateway.faces.face.Encoder`."""

    media_type = "application/x-ndjson"
    ping = b""

    def __init__(self, request_id: str) -> None:
        self._request_id = request_id

    def piece(self, piece: Piece) -> bytes:
        """One line."""
        return dumps(_piece(piece)) + b"\n"

    def text(self, text: str) -> bytes:
        """One line, of text."""
        return b'{"content":%b}\n' % dumps_text(text)

    def end(self, end: End) -> bytes:
        """The last line."""
        return dumps(self._end(end, "")) + b"\n"

    def whole(self, pieces: list[Piece], end: Completed) -> bytes:
        """The same fields in one object."""
        body = self._end(end, "".join(piece.text for piece in pieces))
        if reasoning := "".join(piece.reasoning for piece in pieces):
            body["reasoning"] = reasoning
        if calls := [_call(call) for call in join_calls(pieces)]:
            body["tool_calls"] = calls
        return dumps(body)

    def refusal(self, error: GatewayError) -> Response:
        """``{"error": …}`` with the error's status."""
        return error_response(error, self._request_id)

    def _end(self, end: End, content: str) -> dict[str, Any]:
        if isinstance(end, GatewayError):
            return {"content": content, "error": end.body(self._request_id)}
        return {"content": content, "done": True, "finish_reason": end.finish_reason, "usage": usage(end.usage)}


def _piece(piece: Piece) -> dict[str, Any]:
    if piece.tool_call is not None:
        return {"content": "", "tool_calls": [_call(piece.tool_call)]}
    if piece.reasoning:
        return {"content": "", "reasoning": piece.reasoning}
    return {"content": piece.text}


def _call(call: pb.ToolCall) -> dict[str, Any]:
    return {"index": call.index, "id": call.id, "name": call.name, "arguments": call.arguments}
