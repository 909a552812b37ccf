"""OpenAI's API: ``POST /v1/chat/completions`` and ``GET /v1/models``."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gateway.errors import GatewayError, UnknownModel
from gateway.faces.bodies import Body
from gateway.faces.face import Asked, Face, Fleet, Json, Route
from gateway.faces.openai import request
from gateway.faces.openai.encoder import OpenAIFormat, openai_error
from gateway.faces.openai.schema import CompletionBody
from gateway.faces.openapi import TEXT, USAGE, chat_body, chat_responses, error_schema, json_response, refusals

ERROR = error_schema(
    type={"type": "string", "description": "OpenAI's kind of error"},
    param={"type": ["string", "null"], "description": "the field at fault"},
)


def _completion(kind: str, part: str, usage: Json, *required: str) -> Json:
    """A ``chat.completion`` or a chunk of one: they differ in what a choice holds."""
    message = {
        "role": {"const": "assistant"},
        "content": {"type": ["string", "null"]},
        "reasoning_content": TEXT,
        "tool_calls": {"type": "array", "items": {"type": "object"}},
    }
    choice = {
        "type": "object",
        "required": ["index", part, "finish_reason"],
        "properties": {
            "index": {"const": 0},
            part: {"type": "object", "properties": message},
            "logprobs": {"type": ["object", "null"]},
            "finish_reason": {"enum": ["stop", "length", "tool_calls", "content_filter", None]},
        },
    }
    return {
        "type": "object",
        "required": ["id", "object", "created", "model", "choices", *required],
        "properties": {
            "id": TEXT,
            "object": {"const": kind},
            "created": {"type": "integer"},
            "model": TEXT,
            "choices": {"type": "array", "maxItems": 1, "items": choice},
            "usage": usage,
        },
    }


CHUNK = _completion("chat.completion.chunk", "delta", {"anyOf": [USAGE, {"type": "null"}]})
COMPLETION: Json = {
    **_completion("chat.completion", "message", USAGE, "usage"),
    "description": "the whole reply, when stream is false",
}
DATA: Json = {"contentMediaType": "application/json", "contentSchema": {"anyOf": [CHUNK, ERROR]}}
EVENT: Json = {
    "type": "object",
    "description": "chat.completion.chunk objects as server-sent events, then [DONE]; or an error and the end",
    "required": ["data"],
    "properties": {"data": {"type": "string", "anyOf": [{"const": "[DONE]"}, DATA]}},
}

MODEL: Json = {
    "type": "object",
    "required": ["id", "object", "created", "owned_by"],
    "properties": {"id": TEXT, "object": {"const": "model"}, "created": {"type": "integer"}, "owned_by": TEXT},
}
MODELS: Json = {
    "type": "object",
    "required": ["object", "data"],
    "properties": {"object": {"const": "list"}, "data": {"type": "array", "items": MODEL}},
}
MODEL_ID: Json = {"name": "model_id", "in": "path", "required": True, "schema": TEXT}


class OpenAIFace(Face):
    """What OpenAI's SDKs and their like ask for."""

    name = "openai"
    prefix = "/v1/"

    def routes(self) -> list[Route]:
        chat: Json = {
            "name": "openai",
            "description": "Complete a conversation, as OpenAI's API does.",
            "tags": ["openai"],
            "openapi_extra": chat_body(CompletionBody, {"role": "user", "content": "Hello"}),
            "responses": chat_responses(OpenAIFormat.media_type, EVENT, COMPLETION, ERROR),
        }
        models: Json = {
            "name": "models",
            "description": "The models that can be asked now.",
            "tags": ["openai"],
            "responses": {200: json_response("the models", MODELS), **refusals(ERROR, 401)},
        }
        model: Json = {
            "name": "model",
            "description": "One model that can be asked now.",
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
        return openai_error(error, request_id)


async def _list_models(request: Request, fleet: Fleet) -> Response:
    return JSONResponse({"object": "list", "data": [_model(name, fleet) for name in fleet.models(request)]})


async def _show_model(request: Request, fleet: Fleet) -> Response:
    name, names = request.path_params["model_id"], fleet.models(request)
    if name not in names:
        raise UnknownModel(name, names)
    return JSONResponse(_model(name, fleet))


def _model(name: str, fleet: Fleet) -> Json:
    return {"id": name, "object": "model", "created": fleet.started, "owned_by": "chatfleet"}
