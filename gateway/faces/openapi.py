"""Parts of the OpenAPI document that faces share: bodies, streamed answers and errors.

FastAPI cannot derive them: its endpoints here take the plain request, whose body is read in small steps.
"""

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel

Json = dict[str, Any]
Responses = dict[int | str, Json]

TEXT: Json = {"type": "string"}
NUMBER: Json = {"type": "integer"}
OBJECTS: Json = {"type": "array", "items": {"type": "object"}}


SCHEMES: Json = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "as OpenAI's clients send it"},
    "api-key": {"type": "apiKey", "in": "header", "name": "api-key", "description": "as Azure's clients send it"},
    "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key", "description": "as Anthropic's clients do"},
}
"""Ways to send an API key. One of them is enough."""


def secured(document: Json, *, free: Iterable[str]) -> Json:
    """The document of a gateway with API keys: everything needs one but to get the ``free`` paths."""
    document.setdefault("components", {})["securitySchemes"] = SCHEMES
    document["security"] = [{name: []} for name in SCHEMES]
    for path in free:
        document["paths"][path]["get"]["security"] = []
    return document


def schema(*required: str, **properties: Json) -> Json:
    return {"type": "object", "required": list(required), "properties": properties}


COUNTS = ("prompt_tokens", "completion_tokens", "total_tokens")
USAGE = schema(*COUNTS, **dict.fromkeys(COUNTS, NUMBER))

STATUSES = {
    400: "the body is not JSON, asks for something unsupported, or was rejected by the model",
    401: "the API key is missing or not valid",
    403: "the API key may not use this model",
    402: "the worker's account at the model's provider is used up",
    404: "no worker serves this model, or its provider does not know it",
    408: "the body did not arrive in time",
    409: "the model's provider is in conflict with another request",
    413: "the body is too large",
    415: "the model takes no content of this kind",
    422: "a field is missing or wrong, or the model rejected the request",
    429: "over a limit of the API key or of the provider, or every worker is at its capacity; with Retry-After",
    500: "the gateway failed",
    502: "the model or its worker failed",
    503: "no worker is there, this gateway is about to leave, or the model is overloaded; with Retry-After",
    504: "a deadline passed",
}


def error_schema(**more_fields: Json) -> Json:
    """``{"error": …}`` with the fields that all faces' errors have, and ``more_fields``."""
    error = schema(
        *("code", "message", "retryable", "request_id"),
        code=TEXT,
        message={"type": "string", "description": "one sentence, which names the field at fault"},
        retryable={"type": "boolean", "description": "whether the same request may succeed later"},
        request_id=TEXT,
        usage={"type": "object"},
        provider={
            "type": "object",
            "description": "what the model's provider said: status, code, type, param, …",
        },
        **more_fields,
    )
    return schema("error", error=error)


def json_response(description: str, content: Json) -> Json:
    return {"description": description, "content": {"application/json": {"schema": content}}}


def refusals(error: Json, *statuses: int) -> Responses:
    """``responses`` for errors with these statuses, or with every status that a chat may have."""
    return {status: json_response(STATUSES[status], error) for status in statuses or STATUSES}


def chat_responses(media_type: str, item: Json, whole: Json, error: Json) -> Responses:
    """``responses`` of a chat; ``item`` is the schema of one line or event of the stream, ``whole`` of a whole reply.

    ``itemSchema`` is of OpenAPI 3.2. FastAPI writes it into 3.1 for its own streams, and older tools ignore it.
    """
    content = {media_type: {"itemSchema": item}, "application/json": {"schema": whole}}
    return {200: {"description": "the reply", "content": content}, **refusals(error)}


def chat_body(kind: type[BaseModel], message: Json) -> Json:
    """``openapi_extra`` of a chat whose body is a ``kind``; the examples have one ``message``."""
    written = kind.model_json_schema()
    written = _inline(written, written.pop("$defs", {}))
    examples = {
        name: {"value": {"messages": [message], "stream": stream}}
        for name, stream in (("streamed", True), ("whole", False))
    }
    content = {"application/json": {"schema": written, "examples": examples}}
    return {"requestBody": {"required": True, "content": content}}


def _inline(part: Any, definitions: Json) -> Any:
    if isinstance(part, dict):
        reference = part.get("$ref")
        if isinstance(reference, str):
            return _inline(definitions[reference.rpartition("/")[2]], definitions)
        return {key: _inline(value, definitions) for key, value in part.items() if key != "discriminator"}
    return [_inline(item, definitions) for item in part] if isinstance(part, list) else part
