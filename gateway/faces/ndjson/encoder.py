"""The seed's format: a JSON object a line and a line a chunk, each with ``content``; the last says how it ended."""

from collections.abc import Iterable

import orjson

from fleet.process.turns import Steps
from gateway.chats.reply import Completed, End
from gateway.errors import GatewayError, usage
from gateway.faces import agents
from gateway.faces.fields import Fields, Json, Parts, merged_parts
from gateway.faces.line import dumps, dumps_large, dumps_text
from gateway.faces.whole import gathered
from protos import chat_pb2 as pb


class Ndjson:
    """What only an OpenAI-compatible model says is in ``extra``; a refusal is also the content, so that it is read."""

    media_type = "application/x-ndjson"

    def __init__(self, request_id: str) -> None:
        self._request_id = request_id
        self._fields = Fields()

    def begin(self) -> bytes:
        return b""

    def event(self, event: pb.ReplyEvent) -> bytes:
        source = b',"source":' + dumps_text(event.source) if event.source else b""
        if text := event.text:  # cheaper than asking which kind it is
            line = b'{"content":%b%b}\n' % (dumps_text(text), source)
        elif text := event.reasoning:
            line = b'{"content":"","reasoning":%b%b}\n' % (dumps_text(text), source)
        elif (shown := agents.told(event)) is not None:
            line = dumps({"content": "", "source": event.source, **shown}) + b"\n"
        elif event.HasField("tool_call"):
            line = dumps({"content": "", "tool_calls": [_call(event.tool_call)]}) + b"\n"
        elif event.HasField("fields"):
            return self._line({"content": ""}) if self._fields.add(event.fields) else b""
        else:
            return b""
        return self._line(orjson.loads(line)) if self._fields else line

    def end(self, end: End) -> bytes:
        return self._line(self._end(end, ""))

    def ping(self) -> bytes:
        return b'{"content":""}\n'

    def whole(self, events: Iterable[pb.ReplyEvent], end: Completed) -> Steps[bytes]:
        said = yield from gathered(events, self._fields)
        body = self._end(end, said.text)
        if said.reasoning:
            body["reasoning"] = said.reasoning
        if said.calls:
            body["tool_calls"] = [_call(call) for call in said.calls]
        if said.messages:
            body["messages"] = said.messages
        return (yield from dumps_large(_with_extra(body, (yield from merged_parts(said.parts)))))

    def _line(self, body: Json) -> bytes:
        return dumps(_with_extra(body, self._fields.take())) + b"\n"

    def _end(self, end: End, content: str) -> Json:
        if isinstance(end, GatewayError):
            return {"content": content, "error": end.body(self._request_id)}
        return {"content": content, "done": True, "finish_reason": end.finish_reason, "usage": usage(end.usage)}


def _with_extra(body: Json, parts: Parts) -> Json:
    extra = {name: part for name, part in parts.items() if part}
    refusal = parts["delta"].get("refusal")
    if isinstance(refusal, str):
        body["content"] += refusal
    return body | ({"extra": extra} if extra else {})


def _call(call: pb.ToolCall) -> Json:
    return {"index": call.index, "id": call.id, "name": call.name, "arguments": call.arguments}
