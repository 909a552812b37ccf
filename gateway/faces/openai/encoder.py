"""OpenAI's format: chunks as server-sent events, a completion as one object, errors in OpenAI's shape."""

import time
from collections.abc import Callable
from typing import Any

from starlette.responses import Response

from gateway.chats.reply import Completed, End, Piece, join_calls
from gateway.errors import GatewayError, usage
from gateway.faces.line import dumps, dumps_text
from protos import chat_pb2 as pb

Json = dict[str, Any]

FINISH_REASONS = {
    "function_calls": "tool_calls",
    "stop": "stop",
    "length": "length",
    "content_filter": "content_filter",
}
"""AutoGen's names in OpenAI's; anything else is a stop."""

ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "invalid_request_error",
    408: "invalid_request_error",
    413: "invalid_request_error",
    422: "invalid_request_error",
    429: "rate_limit_error",
}
"""OpenAI's ``type`` of an error, by its status; every other one is a ``server_error``."""

CODES = {"unknown_model": "model_not_found"}
"""Our codes that OpenAI's clients know by another name."""


class OpenAIFormat:
    """See :class:`gateway.faces.face.Encoder`. ``model`` gives the name to answer with, once it is known."""

    media_type = "text/event-stream"
    ping = b": ping\n\n"

    def __init__(self, request_id: str, model: Callable[[], str], *, include_usage: bool) -> None:
        self._request_id = request_id
        self._model = model
        self._include_usage = include_usage
        self._created = int(time.time())
        self._first = True
        self._frame: tuple[bytes, bytes] | None = None
        """What stands before and after the text in every event that carries nothing else."""

    def piece(self, piece: Piece) -> bytes:
        """One event."""
        if self._first or not piece.text:
            return _event(self._chunk(self._delta(piece), logprobs=piece.logprobs))
        return self.text(piece.text)

    def text(self, text: str) -> bytes:
        """One event, of text."""
        if self._first:
            return self.piece(Piece(text=text))
        if self._frame is None:
            head, delta, tail = _event(self._chunk({"content": ""})).partition(b'"delta":{"content":""')
            self._frame = head + delta[:-2], tail
        before, after = self._frame
        return before + dumps_text(text) + after

    def end(self, end: End) -> bytes:
        """The last chunk, the usage if it was asked for, and ``[DONE]``; or the error and nothing after it."""
        if isinstance(end, GatewayError):
            return _event({"error": error_body(end, self._request_id)})
        events = _event(self._chunk(self._delta(None), finish_reason=_finish_reason(end)))
        if self._include_usage:
            events += _event({**self._head("chat.completion.chunk"), "choices": [], "usage": usage(end.usage)})
        return events + b"data: [DONE]\n\n"

    def whole(self, pieces: list[Piece], end: Completed) -> bytes:
        """A ``chat.completion``."""
        text = "".join(piece.text for piece in pieces)
        calls = [_call(call) for call in join_calls(pieces)]
        message: Json = {"role": "assistant", "content": text if text or not calls else None, "refusal": None}
        if reasoning := "".join(piece.reasoning for piece in pieces):
            message["reasoning_content"] = reasoning
        if calls:
            message["tool_calls"] = calls
        tokens = [token for piece in pieces for token in piece.logprobs or ()]
        choice = {
            "index": 0,
            "message": message,
            "logprobs": {"content": tokens, "refusal": None} if tokens else None,
            "finish_reason": _finish_reason(end),
        }
        return dumps({**self._head("chat.completion"), "choices": [choice], "usage": usage(end.usage)})

    def refusal(self, error: GatewayError) -> Response:
        """The error with its status, in OpenAI's shape."""
        return openai_error(error, self._request_id)

    def _head(self, kind: str) -> Json:
        return {
            "id": f"chatcmpl-{self._request_id}",
            "object": kind,
            "created": self._created,
            "model": self._model(),
            "system_fingerprint": None,
        }

    def _chunk(self, delta: Json, *, logprobs: list[Any] | None = None, finish_reason: str | None = None) -> Json:
        choice = {
            "index": 0,
            "delta": delta,
            "logprobs": {"content": logprobs, "refusal": None} if logprobs else None,
            "finish_reason": finish_reason,
        }
        chunk = {**self._head("chat.completion.chunk"), "choices": [choice]}
        return {**chunk, "usage": None} if self._include_usage else chunk

    def _delta(self, piece: Piece | None) -> Json:
        delta: Json = {}
        if self._first:
            self._first = False
            delta = {"role": "assistant", "content": ""}
        if piece is None:
            return delta
        if piece.tool_call is not None:
            return {**delta, "tool_calls": [_call_part(piece.tool_call)]}
        if piece.reasoning:
            return {**delta, "reasoning_content": piece.reasoning}
        return {**delta, "content": piece.text} if piece.text else delta


def error_body(error: GatewayError, request_id: str) -> Json:
    """OpenAI's four fields, and ours."""
    body = error.body(request_id)
    return {
        "message": error.message,
        "type": ERROR_TYPES.get(error.status, "invalid_request_error" if error.status < 500 else "server_error"),
        "param": error.param,
        **body,
        "code": CODES.get(error.code, error.code),
    }


def openai_error(error: GatewayError, request_id: str) -> Response:
    """An error as a plain answer in OpenAI's shape."""
    body = dumps({"error": error_body(error, request_id)})
    return Response(body, error.status, headers=error.headers(), media_type="application/json")


def _event(body: Json) -> bytes:
    return b"data: " + dumps(body) + b"\n\n"


def _finish_reason(end: Completed) -> str:
    return FINISH_REASONS.get(end.finish_reason, "stop")


def _call(call: pb.ToolCall) -> Json:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _call_part(part: pb.ToolCall) -> Json:
    function = {"arguments": part.arguments}
    if part.name:
        function = {"name": part.name, **function}
    head = {"index": part.index, "id": part.id, "type": "function"} if part.id else {"index": part.index}
    return {**head, "function": function}
