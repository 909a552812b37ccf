"""OpenAI's API: ``POST /v1/chat/completions`` and ``GET /v1/models``."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gateway.errors import GatewayError, UnknownModel
from gateway.faces.bodies import Body
from gateway.faces.face import Asked, Face, Fleet, Json, Route, json_refusal
from gateway.faces.openai import request
from gateway.faces.openai.encoder import OpenAIFormat, error_body
from gateway.faces.openai.schema import CompletionBody
from gateway.faces.openapi import (
    NUMBER,
    OBJECTS,
    TEXT,
    USAGE,
    chat_body,
    chat_responses,
    error_schema,
    json_response,
    refusals,
    schema,
)

TEXT_OR_NULL: Json = {"type": ["string", "null"]}
ERROR = error_schema(
    type={"type": "string", "description": "OpenAI's kind of error"},
    param={**TEXT_OR_NULL, "description": "the field at fault"},
)


def _completion(kind: str, part: str, usage: Json, *required: str) -> Json:
    """A ``chat.completion`` or a chunk of one: they differ in what a choice holds."""
    role: Json = {"const": "assistant"}
    reasons: Json = {
        **TEXT_OR_NULL,
        "description": "stop, length, tool_calls, content_filter, or a word of the model's",
    }
    message = schema(role=role, content=TEXT_OR_NULL, reasoning_content=TEXT, tool_calls=OBJECTS)
    logprobs: Json = {"type": ["object", "null"]}
    fields: Json = {"index": {"const": 0}, part: message, "logprobs": logprobs, "finish_reason": reasons}
    choice = schema("index", part, "finish_reason", **fields)
    return schema(
        *("id", "object", "created", "model", "choices", *required),
        id=TEXT,
        object={"const": kind},
        created=NUMBER,
        model=TEXT,
        choices={"type": "array", "maxItems": 1, "items": choice},
        usage=usage,
    )


CHUNK = _completion("chat.completion.chunk", "delta", {"anyOf": [USAGE, {"type": "null"}]})
COMPLETION: Json = {
    **_completion("chat.completion", "message", USAGE, "usage"),
    "description": "the whole reply, when stream is false",
}
DATA: Json = {"contentMediaType": "application/json", "contentSchema": {"anyOf": [CHUNK, ERROR]}}
EVENT: Json = {
    **schema("data", data={"type": "string", "anyOf": [{"const": "[DONE]"}, DATA]}),
    "description": "chat.completion.chunk objects as server-sent events, then [DONE]; or an error and the end",
}
MODEL = schema(
    *("id", "object", "created", "owned_by"),
    id=TEXT,
    object={"const": "model"},
    created=NUMBER,
    owned_by=TEXT,
    description={**TEXT, "description": "what it is for, where its entry says so"},
)
MODELS = schema("object", "data", object={"const": "list"}, data={"type": "array", "items": MODEL})
MODEL_ID: Json = {"name": "model_id", "in": "path", "required": True, "schema": TEXT}


class OpenAIFace(Face):
    name = "openai"
    prefix = "/v1"

    def routes(self) -> list[Route]:
        chat: Json = {
            "name": "openai_chat",
            "summary": "Chat (OpenAI)",
            "description": "Reply to a conversation as OpenAI's API does: whole, or as events with `stream: true`.",
            "tags": ["openai"],
            "openapi_extra": chat_body(CompletionBody, {"role": "user", "content": "Hello"}),
            "responses": chat_responses(OpenAIFormat.media_type, EVENT, COMPLETION, ERROR),
        }
        models: Json = {
            "name": "models",
            "summary": "List models and agents",
            "description": "The models and agents that can be asked now.",
            "tags": ["openai"],
            "responses": {200: json_response("the models", MODELS), **refusals(ERROR, 401)},
        }
        model: Json = {
            "name": "model",
            "summary": "Show one model or agent",
            "description": "One model or agent that can be asked now.",
            "tags": ["openai"],
            "openapi_extra": {"parameters": [MODEL_ID]},
            "responses": {200: json_response("the model", MODEL), **refusals(ERROR, 401, 404)},
        }
        return [
            self.chat("/v1/chat/completions", chat),
            Route("GET", "/v1/models", _list_models, models),
            Route("GET", "/v1/models/{model_id:rest}", _show_model, model),
        ]

    async def read(self, body: Body, request_id: str, default_model: str) -> Asked:
        return await request.read(body, request_id, default_model)

    def refusal(self, error: GatewayError, request_id: str) -> Response:
        return json_refusal(error, error_body(error, request_id))


async def _list_models(request: Request, fleet: Fleet) -> Response:
    return JSONResponse({"object": "list", "data": [_model(*model, fleet) for model in fleet.models(request).items()]})


async def _show_model(request: Request, fleet: Fleet) -> Response:
    name, models = request.path_params["model_id"], fleet.models(request)
    if name not in models:
        raise UnknownModel(name, [*models])
    return JSONResponse(_model(name, models[name], fleet))


def _model(name: str, description: str, fleet: Fleet) -> Json:
    model = {"id": name, "object": "model", "created": fleet.started, "owned_by": "chatfleet"}
    return {**model, "description": description} if description else model
