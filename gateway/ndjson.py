"""The seed's format: one JSON object a line and a line a chunk, each with ``content``; the last says how it ended."""

from typing import Any

import orjson

from gateway.errors import GatewayError, usage
from gateway.reply import Completed, End, Piece

MEDIA_TYPE = "application/x-ndjson"


def line(piece: Piece) -> bytes:
    """One piece of the reply, as one line."""
    return orjson.dumps(_piece(piece), option=orjson.OPT_APPEND_NEWLINE)


def last_line(end: End, request_id: str) -> bytes:
    """The end of the reply, as the last line."""
    return orjson.dumps(_end(end, request_id, ""), option=orjson.OPT_APPEND_NEWLINE)


def whole(pieces: list[Piece], end: Completed) -> bytes:
    """A completed reply as one JSON object, for ``"stream": false``."""
    body = _end(end, "", "".join(piece.text for piece in pieces))
    if reasoning := "".join(piece.reasoning for piece in pieces):
        body["reasoning"] = reasoning
    if calls := [_call(piece) for piece in pieces if piece.tool_call is not None]:
        body["tool_calls"] = calls
    return orjson.dumps(body)


def _piece(piece: Piece) -> dict[str, Any]:
    if piece.tool_call is not None:
        return {"content": "", "tool_calls": [_call(piece)]}
    if piece.reasoning:
        return {"content": "", "reasoning": piece.reasoning}
    return {"content": piece.text}


def _call(piece: Piece) -> dict[str, str]:
    call = piece.tool_call
    assert call is not None
    return {"id": call.id, "name": call.name, "arguments": call.arguments}


def _end(end: End, request_id: str, content: str) -> dict[str, Any]:
    if isinstance(end, GatewayError):
        return {"content": content, "error": end.body(request_id)}
    return {"content": content, "done": True, "finish_reason": end.finish_reason, "usage": usage(end.usage)}
