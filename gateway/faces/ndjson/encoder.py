"""The seed's format: a JSON object a line and a line a chunk, each with ``content``; the last says how it ended."""

from collections.abc import Sequence
from typing import Any

from gateway.chats.reply import Completed, End
from gateway.errors import GatewayError, usage
from gateway.faces.encoder import join_calls
from gateway.faces.line import dumps, dumps_text
from protos import chat_pb2 as pb


class Ndjson:
    media_type = "application/x-ndjson"

    def __init__(self, request_id: str) -> None:
        self._request_id = request_id

    def begin(self) -> bytes:
        return b""

    def event(self, event: pb.ReplyEvent) -> bytes:
        if text := event.text:  # cheaper than asking which kind it is
            return b'{"content":%b}\n' % dumps_text(text)
        if text := event.reasoning:
            return b'{"content":"","reasoning":%b}\n' % dumps_text(text)
        if event.HasField("tool_call"):
            return dumps({"content": "", "tool_calls": [_call(event.tool_call)]}) + b"\n"
        return b""

    def end(self, end: End) -> bytes:
        return dumps(self._end(end, "")) + b"\n"

    def ping(self) -> bytes:
        return b'{"content":""}\n'

    def whole(self, events: Sequence[pb.ReplyEvent], end: Completed) -> bytes:
        body = self._end(end, "".join([event.text for event in events]))
        if reasoning := "".join([event.reasoning for event in events]):
            body["reasoning"] = reasoning
        if calls := [_call(call) for call in join_calls(events)]:
            body["tool_calls"] = calls
        return dumps(body)

    def _end(self, end: End, content: str) -> dict[str, Any]:
        if isinstance(end, GatewayError):
            return {"content": content, "error": end.body(self._request_id)}
        return {"content": content, "done": True, "finish_reason": end.finish_reason, "usage": usage(end.usage)}


def _call(call: pb.ToolCall) -> dict[str, Any]:
    return {"index": call.index, "id": call.id, "name": call.name, "arguments": call.arguments}
