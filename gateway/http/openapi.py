"""What the OpenAPI document says of the endpoints, beside what FastAPI finds out: bodies, streams and errors."""

from typing import Any

from pydantic import BaseModel

from gateway.faces.ndjson.request import ChatBody
from gateway.faces.openai.request import CompletionBody

Json = dict[str, Any]

_ERROR: Json = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message", "retryable", "request_id"],
            "properties": {
                "code": {"type": "string"},
                "message": {"type": "string", "description": "one sentence, which names the field at fault"},
                "retryable": {"type": "boolean", "description": "whether the same request may succeed later"},
                "request_id": {"type": "string"},
                "type": {"type": "string", "description": "OpenAI's kind of error (/v1 only)"},
                "param": {"type": ["string", "null"], "description": "the field at fault (/v1 only)"},
                "usage": {"type": "object"},
            },
        }
    },
}

_TEXT: Json = {"type": "string"}
_CALLS: Json = {"type": "array", "items": {"type": "object"}}
_USAGE: Json = {
    "type": "object",
    "required": ["prompt_tokens", "completion_tokens", "total_tokens"],
    "properties": {key: {"type": "integer"} for key in ("prompt_tokens", "completion_tokens", "total_tokens")},
}

_LINE_FIELDS: Json = {
    "content": _TEXT,
    "reasoning": _TEXT,
    "tool_calls": _CALLS,
    "done": {"const": True},
    "finish_reason": _TEXT,
    "usage": _USAGE,
}
_LINE: Json = {
    "type": "object",
    "required": ["content"],
    "properties": {**_LINE_FIELDS, "error": _ERROR["properties"]["error"]},
}
_WHOLE_LINE: Json = {
    "type": "object",
    "required": ["content", "done", "finish_reason", "usage"],
    "properties": _LINE_FIELDS,
}


def _completion(kind: str, part: str, usage: Json, *required: str) -> Json:
    """A ``chat.completion`` or a chunk of one: they differ in what a choice holds."""
    choice = {
        "type": "object",
        "required": ["index", part, "finish_reason"],
        "properties": {
            "index": {"const": 0},
            part: {
                "type": "object",
                "properties": {
                    "role": {"const": "assistant"},
                    "content": {"type": ["string", "null"]},
                    "reasoning_content": _TEXT,
                    "tool_calls": _CALLS,
                },
            },
            "logprobs": {"type": ["object", "null"]},
            "finish_reason": {"enum": ["stop", "length", "tool_calls", "content_filter", None]},
        },
    }
    return {
        "type": "object",
        "required": ["id", "object", "created", "model", "choices", *required],
        "properties": {
            "id": _TEXT,
            "object": {"const": kind},
            "created": {"type": "integer"},
            "model": _TEXT,
            "choices": {"type": "array", "maxItems": 1, "items": choice},
            "usage": usage,
        },
    }


_CHUNK = _completion("chat.completion.chunk", "delta", {"anyOf": [_USAGE, {"type": "null"}]})
_COMPLETION = _completion("chat.completion", "message", _USAGE, "usage")
_EVENT: Json = {
    "type": "object",
    "required": ["data"],
    "properties": {
        "data": {
            "type": "string",
            "anyOf": [
                {"const": "[DONE]"},
                {"contentMediaType": "application/json", "contentSchema": {"anyOf": [_CHUNK, _ERROR]}},
            ],
        }
    },
}

_STATUSES = {
    400: "the body is not JSON, asks for something unsupported, or was rejected by the model",
    401: "the API key is missing or not valid",
    403: "the API key may not use this model",
    404: "no worker serves this model",
    408: "the body did not arrive in time",
    413: "the body is too large",
    422: "a field is missing or wrong",
    429: "over a limit of the API key, or every worker is at its capacity; with Retry-After",
    500: "the gateway failed",
    502: "the model or its worker failed",
    503: "no worker is there, or this gateway is about to leave; with Retry-After",
    504: "a deadline passed",
}


def _refusals(*statuses: int) -> dict[int | str, Json]:
    return {
        status: {"description": _STATUSES[status], "content": {"application/json": {"schema": _ERROR}}}
        for status in statuses
    }


def _asks(kind: type[BaseModel], who: str) -> Json:
    """``who`` is the field that says whose turn a message is."""
    schema = kind.model_json_schema(ref_template=f"#/components/schemas/{kind.__name__}/$defs/{{model}}")
    schema = _inline(schema, schema.pop("$defs", {}))
    turns = [{who: "user", "content": "Hello"}]
    examples = {
        "streamed": {"value": {"messages": turns, "stream": True}},
        "whole": {"value": {"messages": turns, "stream": False}},
    }
    content = {"application/json": {"schema": schema, "examples": examples}}
    return {"requestBody": {"required": True, "content": content}}


def _inline(schema: Any, definitions: Json) -> Any:
    """``schema`` with its references put in place: none of them is recursive."""
    if isinstance(schema, dict):
        reference = schema.get("$ref")
        if isinstance(reference, str):
            return _inline(definitions[reference.rpartition("/")[2]], definitions)
        return {key: _inline(value, definitions) for key, value in schema.items() if key != "discriminator"}
    if isinstance(schema, list):
        return [_inline(item, definitions) for item in schema]
    return schema


def _answers(stream: str, said: str, item: Json, whole: Json) -> dict[int | str, Json]:
    """``item`` is the schema of one line or event: of a stream as a whole there is none to give.

    OpenAPI has ``itemSchema`` since 3.2; FastAPI writes it into 3.1 for its own streams, and older tools pass over it.
    """
    content = {
        stream: {"itemSchema": {**item, "description": said}},
        "application/json": {"schema": {**whole, "description": "the whole reply, when stream is false"}},
    }
    everything = _refusals(*_STATUSES)
    return {200: {"description": "the reply", "content": content}, **everything}


KEYED: dict[int | str, Json] = _refusals(401)

SEED: Json = {
    "tags": ["chat"],
    "openapi_extra": _asks(ChatBody, "source"),
    "response_model": None,
    "responses": _answers(
        "application/x-ndjson",
        'one JSON object a line, each with "content"; the last has "done" or "error"',
        _LINE,
        _WHOLE_LINE,
    ),
}

OPENAI: Json = {
    "tags": ["openai"],
    "openapi_extra": _asks(CompletionBody, "role"),
    "response_model": None,
    "responses": _answers(
        "text/event-stream",
        "chat.completion.chunk objects as server-sent events, then [DONE]; or an error and the end",
        _EVENT,
        _COMPLETION,
    ),
}

MODELS: Json = {"tags": ["openai"], "responses": _refusals(401)}
MODEL: Json = {"tags": ["openai"], "responses": _refusals(401, 404)}
