"""OpenAI's format: chunks as server-sent events, a completion as one object, errors in OpenAI's shape."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import orjson

from gateway.chats.reply import Completed, End
from gateway.errors import GatewayError, usage
from gateway.faces.encoder import join_calls
from gateway.faces.line import dumps, dumps_text
from protos import chat_pb2 as pb

Json = dict[str, Any]

FINISH_REASONS = {
    "function_calls": "tool_calls",
    "length": "length",
    "content_filter": "content_filter",
}
"""AutoGen's names in OpenAI's; anything else is a stop."""

ERROR_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
}
"""OpenAI's ``type`` of an error where the status alone does not tell it."""

CODES = {"unknown_model": "model_not_found", "not_found": "unknown_url"}


class OpenAIFormat:
    """See :class:`gateway.faces.encoder.Encoder`. ``model`` gives the model's name, known from the first event on."""

    media_type = "text/event-stream"

    def __init__(self, request_id: str, model: Callable[[], str], *, include_usage: bool) -> None:
        self._request_id = request_id
        self._model = model
        self._include_usage = include_usage
        self._created = int(time.time())
        self._head = self._tail = b""  # around the fields of ``delta``, in every event but the first

    def begin(self) -> bytes:
        return b""

    def event(self, event: pb.ReplyEvent) -> bytes:
        if text := event.text:  # cheaper than asking which kind it is
            field = b'"content":' + dumps_text(text)
        elif text := event.reasoning:
            field = b'"reasoning_content":' + dumps_text(text)
        elif event.HasField("tool_call"):
            field = b'"tool_calls":[' + _call_part(event.tool_call) + b"]"
        elif event.logprobs:
            return _event(self._chunk(self._role(), logprobs=orjson.loads(event.logprobs)))
        else:
            return b""
        if not self._head:
            return self._first(field)
        return self._head + field + self._tail

    def end(self, end: End) -> bytes:
        """The last chunk, the usage if it was asked for, and ``[DONE]``; or the error and nothing after it."""
        if isinstance(end, GatewayError):
            return _event({"error": error_body(end, self._request_id)})
        events = _event(self._chunk(self._role(), finish_reason=_finish_reason(end)))
        if self._include_usage:
            events += _event({**self._fields("chat.completion.chunk"), "choices": [], "usage": usage(end.usage)})
        return events + b"data: [DONE]\n\n"

    def ping(self) -> bytes:
        """An empty chunk: clients that split at blank lines fail on a comment, or lose what follows it."""
        return _event(self._chunk({}))

    def whole(self, events: Sequence[pb.ReplyEvent], end: Completed) -> bytes:
        text = "".join([event.text for event in events])
        calls = [_call(call) for call in join_calls(events)]
        message: Json = {"role": "assistant", "content": text if text or not calls else None, "refusal": None}
        if reasoning := "".join([event.reasoning for event in events]):
            message["reasoning_content"] = reasoning
        if calls:
            message["tool_calls"] = calls
        tokens = [token for event in events if event.logprobs for token in orjson.loads(event.logprobs)]
        choice = {
            "index": 0,
            "message": message,
            "logprobs": {"content": tokens, "refusal": None} if tokens else None,
            "finish_reason": _finish_reason(end),
        }
        return dumps({**self._fields("chat.completion"), "choices": [choice], "usage": usage(end.usage)})

    def _fields(self, kind: str) -> Json:
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
        chunk = {**self._fields("chat.completion.chunk"), "choices": [choice]}
        return {**chunk, "usage": None} if self._include_usage else chunk

    def _first(self, field: bytes) -> bytes:
        self._build_frame()
        content = b"" if field.startswith(b'"content"') else b'"content":"",'
        return self._head + b'"role":"assistant",' + content + field + self._tail

    def _role(self) -> Json:
        """The delta of a chunk without fields of its own: the role if the chunk is the first."""
        if self._head:
            return {}
        self._build_frame()
        return {"role": "assistant", "content": ""}

    def _build_frame(self) -> None:
        self._head, _, self._tail = _event(self._chunk({"": 0})).partition(b'"":0')


def error_body(error: GatewayError, request_id: str) -> Json:
    body = error.body(request_id)
    return {
        "message": error.message,
        "type": ERROR_TYPES.get(error.status, "invalid_request_error" if error.status < 500 else "server_error"),
        "param": error.param,
        **body,
        "code": CODES.get(error.code, error.code),
    }


def _event(body: Json) -> bytes:
    return b"data: " + dumps(body) + b"\n\n"


def _finish_reason(end: Completed) -> str:
    return FINISH_REASONS.get(end.finish_reason, "stop")


def _call(call: pb.ToolCall) -> Json:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _call_part(part: pb.ToolCall) -> bytes:
    if not (part.id or part.name):
        return b'{"index":%d,"function":{"arguments":%b}}' % (part.index, dumps_text(part.arguments))
    function = {"name": part.name, "arguments": part.arguments} if part.name else {"arguments": part.arguments}
    head = {"index": part.index, "id": part.id, "type": "function"} if part.id else {"index": part.index}
    return dumps({**head, "function": function})
