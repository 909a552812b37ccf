"""The seed's format: a JSON object a line and a line a chunk, each with ``content``; the last says how it ended."""

from collections.abc import Sequence
from typing import Any

import orjson

from gateway.chats.reply import Completed, End
from gateway.errors import GatewayError, usage
from gateway.faces.encoder import join_calls
from gateway.faces.fields import Fields, Parts, merged_parts
from gateway.faces.line import dumps, dumps_text
from protos import chat_pb2 as pb


class Ndjson:
    """What only an OpenAI-compatible model says is in ``extra``; a refusal is also the content, so that it is read."""

    media_type = "application/x-ndjson"
    ping = b""

    def __init__(self, request_id: str) -> None:
        self._request_id = request_id
        self._fields = Fields()
        self._held: list[Parts] = []

    def begin(self) -> bytes:
        return b""

    def event(self, event: pb.ReplyEvent) -> bytes:
        if event.HasField("fields"):
            return self._read(event.fields)
        if text := event.text:
            line = b'{"content":%b}\n' % dumps_text(text)
        elif text := event.reasoning:
            line = b'{"content":"","reasoning":%b}\n' % dumps_text(text)
        elif event.HasField("tool_call"):
            line = dumps({"content": "", "tool_calls": [_call(event.tool_call)]}) + b"\n"
        else:
            return b""
        return dumps(self._with_extra(orjson.loads(line))) + b"\n" if self._held else line

    def end(self, end: End) -> bytes:
        return dumps(self._with_extra(self._end(end, ""))) + b"\n"

    def whole(self, events: Sequence[pb.ReplyEvent], end: Completed) -> bytes:
        body = self._end(end, "".join([event.text for event in events]))
        if reasoning := "".join([event.reasoning for event in events]):
            body["reasoning"] = reasoning
        if calls := [_call(call) for call in join_calls(events)]:
            body["tool_calls"] = calls
        self._held = [
            parts for event in events if event.HasField("fields") and (parts := self._fields.read(event.fields))
        ]
        return dumps(self._with_extra(body))

    def _read(self, fields: pb.Fields) -> bytes:
        parts = self._fields.read(fields)
        if parts is None:
            return b""
        self._held.append(parts)
        return b"" if fields.beside else dumps(self._with_extra({"content": ""})) + b"\n"

    def _with_extra(self, body: dict[str, Any]) -> dict[str, Any]:
        held, self._held = self._held, []
        if not held:
            return body
        extra = {name: part for name, part in merged_parts(held).items() if part}
        refusal = extra.get("delta", {}).get("refusal")
        if isinstance(refusal, str):
            body["content"] += refusal
        return body | {"extra": extra}

    def _end(self, end: End, content: str) -> dict[str, Any]:
        if isinstance(end, GatewayError):
            return {"content": content, "error": end.body(self._request_id)}
        return {"content": content, "done": True, "finish_reason": end.finish_reason, "usage": usage(end.usage)}


def _call(call: pb.ToolCall) -> dict[str, Any]:
    return {"index": call.index, "id": call.id, "name": call.name, "arguments": call.arguments}
