"""OpenAI's format: chunks as server-sent events, a completion as one object, errors in OpenAI's shape."""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import orjson

from fleet.process.turns import Steps
from gateway.chats.reply import Completed, End
from gateway.errors import GatewayError, usage
from gateway.faces import agents
from gateway.faces.fields import Fields, Parts, merged_parts
from gateway.faces.line import dumps, dumps_large, dumps_text
from gateway.faces.whole import gathered
from protos import chat_pb2 as pb

Json = dict[str, Any]

FINISH_REASONS = {"function_calls": "tool_calls"}
"""AutoGen's names in OpenAI's. Others are the same, and words of the model's that neither knows go to the client."""

ERROR_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
}
"""OpenAI's ``type`` of an error where the status alone does not tell it."""

CONSTANT = 200
"""Characters of a field that every chunk repeats."""
FEW = 20
"""Such fields of a model's chunk."""

CODES = {"unknown_model": "model_not_found", "not_found": "unknown_url"}


class OpenAIFormat:
    """See :class:`gateway.faces.encoder.Encoder`. ``model`` gives the model's name, known from the first event on."""

    media_type = "text/event-stream"

    def __init__(self, request_id: str, model: Callable[[], str], *, include_usage: bool) -> None:
        self._request_id = request_id
        self._model = model
        self._include_usage = include_usage
        self._created = int(time.time())
        self._head = self._tail = b""
        """What stands around the fields of ``delta``, in every event but the first and those with more fields."""
        self._began = False
        self._fields = Fields()
        self._paragraphs = agents.Paragraphs()
        self._constants: Json = {}
        """Fields of the model's chunks that every chunk from then on has."""

    def begin(self) -> bytes:
        return b""

    def event(self, event: pb.ReplyEvent) -> bytes:
        if event.source:
            return self._said(event)
        if text := event.text:  # cheaper than asking which kind it is
            field = b'"content":' + dumps_text(text)
        elif text := event.reasoning:
            field = b'"reasoning_content":' + dumps_text(text)
        elif event.HasField("tool_call"):
            field = b'"tool_calls":[' + _call_part(event.tool_call) + b"]"
        elif event.logprobs:
            return self._chunk({}, logprobs=orjson.loads(event.logprobs))
        elif event.HasField("fields"):
            self._head = b""  # the next chunk has them too
            return self._chunk({}) if self._fields.add(event.fields) else b""
        else:
            return b""
        if not self._head:
            return self._chunk(orjson.loads(b"{%b}" % field))
        return self._head + field + self._tail

    def _said(self, event: pb.ReplyEvent) -> bytes:
        """An agent's event. Chunks name their speaker as ``source`` in the delta; what it did is ``agent_event``."""
        source, paragraphs = event.source, self._paragraphs
        if event.HasField("message"):
            paragraphs.mark()
            return b""
        if text := event.text:
            field = b'"content":' + dumps_text(paragraphs.before("text", source) + text)
        elif text := event.reasoning:
            field = b'"reasoning_content":' + dumps_text(paragraphs.before("reasoning", source) + text)
        else:
            shown = agents.told(event)
            return self._chunk({"source": source, "agent_event": shown}) if shown is not None else b""
        if not self._head:
            return self._chunk(orjson.loads(b'{"source":%b,%b}' % (dumps_text(source), field)))
        return b'%b"source":%b,%b%b' % (self._head, dumps_text(source), field, self._tail)

    def end(self, end: End) -> bytes:
        """The last chunk, the usage if it was asked for, and ``[DONE]``; or the error and nothing after it."""
        if isinstance(end, GatewayError):
            return _event({"error": error_body(end, self._request_id)})
        events = self._chunk({}, finish_reason=_finish_reason(end))
        if self._include_usage:
            events += _event({**self._common("chat.completion.chunk"), "choices": [], "usage": usage(end.usage)})
        return events + b"data: [DONE]\n\n"

    def ping(self) -> bytes:
        """An empty chunk: clients that split at blank lines fail on a comment, or lose what follows it."""
        return self._frame({})

    def whole(self, events: Iterable[pb.ReplyEvent], end: Completed) -> Steps[bytes]:
        said = yield from gathered(events, self._fields)
        calls = [{"index": call.index, **_call(call)} for call in said.calls]
        parts = yield from merged_parts([{"delta": {"tool_calls": calls} if calls else {}}, *said.parts])
        message: Json = {"role": "assistant", "content": said.text, "refusal": None}
        if said.reasoning:
            message["reasoning_content"] = said.reasoning
        if said.messages:
            message["messages"] = said.messages
        message |= parts["delta"]
        if not message["content"] and (message["refusal"] or "tool_calls" in message):
            message["content"] = None
        if calls := message.get("tool_calls", []):
            message["tool_calls"] = [{name: call[name] for name in call if name != "index"} for call in calls]
        tokens: list[Any] = []
        for text in said.logprobs:
            yield
            tokens += orjson.loads(text)
        choice = {"index": 0, "message": message, **_choice(parts, tokens, _finish_reason(end))}
        common = self._common("chat.completion") | parts["chunk"]
        return (yield from dumps_large({**common, "choices": [choice], "usage": usage(end.usage)}))

    def _common(self, kind: str) -> Json:
        return {
            "id": f"chatcmpl-{self._request_id}",
            "object": kind,
            "created": self._created,
            "model": self._model(),
            "system_fingerprint": None,
            **self._constants,
        }

    def _chunk(self, delta: Json, *, logprobs: Sequence[Any] = (), finish_reason: str | None = None) -> bytes:
        """A chunk with all that is held for it; from then on :attr:`_head` and :attr:`_tail` serve."""
        parts = self._fields.take(delta)
        delta = parts["delta"] if self._began else {"role": "assistant", "content": "", **parts["delta"]}
        self._began = True
        if parts["chunk"]:
            self._constants = _constants(self._constants | parts["chunk"])
        if not self._head:
            self._head, _, self._tail = self._frame({"": 0}).partition(b'"":0')
        choice = {"index": 0, "delta": delta, **_choice(parts, logprobs, finish_reason)}
        return self._event(parts["chunk"], choice)

    def _frame(self, delta: Json) -> bytes:
        return self._event({}, {"index": 0, "delta": delta, **_choice({}, (), None)})

    def _event(self, fields: Json, choice: Json) -> bytes:
        rest = {"usage": None} if self._include_usage else {}
        return _event({**self._common("chat.completion.chunk"), **fields, "choices": [choice], **rest})


def error_body(error: GatewayError, request_id: str) -> Json:
    """What a provider said of a request is told in its own words, by which SDKs choose what to raise."""
    provider = error.provider or {} if error.status < 500 else {}
    said = {name: value for name, value in provider.items() if name != "status"}
    kind = ERROR_TYPES.get(error.status, "invalid_request_error" if error.status < 500 else "server_error")
    return {
        **said,
        "message": error.message,
        "type": said.get("type") or kind,
        "param": error.param,
        **error.body(request_id),
        "code": said.get("code") or CODES.get(error.code, error.code),
    }


def _event(body: Json) -> bytes:
    return b"data: " + dumps(body) + b"\n\n"


def _constants(chunk: Json) -> Json:
    """Short values are taken for what is the same in every chunk, such as ``service_tier``; others are sent once."""
    short = {name: value for name, value in chunk.items() if not isinstance(value, dict | list)}
    return {name: value for name, value in short.items() if len(str(value)) <= CONSTANT} if len(short) <= FEW else {}


def _choice(parts: Parts, tokens: Sequence[Any], finish_reason: str | None) -> Json:
    """A choice without its delta or message."""
    logprobs = {"content": tokens or None, "refusal": None, **parts.get("logprobs", {})}
    return {
        **parts.get("choice", {}),
        "logprobs": logprobs if any(logprobs.values()) else None,
        "finish_reason": finish_reason,
    }


def _finish_reason(end: Completed) -> str:
    return FINISH_REASONS.get(end.finish_reason, end.finish_reason)


def _call(call: pb.ToolCall) -> Json:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _call_part(part: pb.ToolCall) -> bytes:
    if not (part.id or part.name):
        return b'{"index":%d,"function":{"arguments":%b}}' % (part.index, dumps_text(part.arguments))
    function = {"name": part.name, "arguments": part.arguments} if part.name else {"arguments": part.arguments}
    head = {"index": part.index, "id": part.id, "type": "function"} if part.id else {"index": part.index}
    return dumps({**head, "function": function})
