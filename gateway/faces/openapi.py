"""Parts of the OpenAPI document that faces share: bodies, streamed answers and errors.

FastAPI cannot derive them: its endpoints here take the plain request, whose body is read in small steps.
"""

from typing import Any

from pydantic import BaseModel

Json = dict[str, Any]
Responses = dict[int | str, Json]

TEXT: Json = {"type": "string"}

USAGE: Json = {
    "type": "object",
    "required": ["prompt_tokens", "completion_tokens", "total_tokens"],
    "properties": {key: {"type": "integer"} for key in ("prompt_tokens", "completion_tokens", "total_tokens")},
}

ERROR_FIELDS: Json = {
    "code": TEXT,
    "message": {"type": "string", "description": "one sentence, which names the field at fault"},
    "retryable": {"type": "boolean", "description": "whether the same request may succeed later"},
    "request_id": TEXT,
    "usage": {"type": "object"},
}

STATUSES = {
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


def error_schema(**more_fields: Json) -> Json:
    """``{"error": …}`` with the fields that all faces' errors have, and ``more_fields``."""
    error = {
        "type": "object",
        "required": ["code", "message", "retryable", "request_id"],
        "properties": ERROR_FIELDS | more_fields,
    }
    return {"type": "object", "required": ["error"], "properties": {"error": error}}


def json_response(description: str, schema: Json) -> Json:
    """One entry of ``responses``."""
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def refusals(error: Json, *statuses: int) -> Responses:
    """``responses`` for errors with these statuses, or with every status that a chat may have."""
    return {status: json_response(STATUSES[status], error) for status in statuses or STATUSES}


def chat_responses(media_type: str, item: Json, whole: Json, error: Json) -> Responses:
    """``responses`` of a chat. ``item`` is the schema of one line or event of the stream, ``whole`` of a whole reply.

    ``itemSchema`` is of OpenAPI 3.2. FastAPI writes it into 3.1 for its own streams, and older tools ignore it.
    """
    content = {media_type: {"itemSchema": item}, "application/json": {"schema": whole}}
    return {200: {"description": "the reply", "content": content}, **refusals(error)}


def chat_body(kind: type[BaseModel], message: Json) -> Json:
    """``openapi_extra`` of a chat whose body is a ``kind``; the examples have one ``message``."""
    schema = kind.model_json_schema(ref_template=f"#/components/schemas/{kind.__name__}/$defs/{{model}}")
    schema = _inline(schema, schema.pop("$defs", {}))
    examples = {
        name: {"value": {"messages": [message], "stream": stream}}
        for name, stream in (("streamed", True), ("whole", False))
    }
    content = {"application/json": {"schema": schema, "examples": examples}}
    return {"requestBody": {"required": True, "content": content}}


def _inline(schema: Any, definitions: Json) -> Any:
    """``schema`` with its references replaced by what they refer to: none is recursive."""
    if isinstance(schema, dict):
        reference = schema.get("$ref")
        if isinstance(reference, str):
            return _inline(definitions[reference.rpartition("/")[2]], definitions)
        return {key: _inline(value, definitions) for key, value in schema.items() if key != "discriminator"}
    if isinstance(schema, list):
        return [_inline(item, definitions) for item in schema]
    return schema
