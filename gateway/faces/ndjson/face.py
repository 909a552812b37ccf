"""The seed's API, ``POST /chat/completions``; its errors are also those of every path that no other face owns."""

from gateway.faces.bodies import Body
from gateway.faces.face import Asked, Face, Json, Route
from gateway.faces.ndjson import request
from gateway.faces.ndjson.encoder import Ndjson
from gateway.faces.openapi import OBJECTS, TEXT, USAGE, chat_body, chat_responses, error_schema, schema

ERROR = error_schema()
FIELDS: Json = {
    "content": TEXT,
    "reasoning": TEXT,
    "tool_calls": OBJECTS,
    "done": {"const": True},
    "finish_reason": TEXT,
    "usage": USAGE,
    "extra": {"type": "object", "description": "what else the model said, by the part of its chunks that held it"},
}
LINE: Json = {
    **schema("content", **FIELDS, **ERROR["properties"]),
    "description": 'one JSON object a line, each with "content"; the last has "done" or "error"',
}
WHOLE: Json = {
    **schema("content", "done", "finish_reason", "usage", **FIELDS),
    "description": "the whole reply, when stream is false",
}


class NdjsonFace(Face):
    name = "ndjson"
    prefix = ""

    def routes(self) -> list[Route]:
        documentation: Json = {
            "name": "chat",
            "summary": "Chat (NDJSON)",
            "description": "Reply to a conversation: streamed, one JSON object a line, or whole with `stream: false`.",
            "tags": ["chat"],
            "openapi_extra": chat_body(request.ChatBody, {"source": "user", "content": "Hello"}),
            "responses": chat_responses(Ndjson.media_type, LINE, WHOLE, ERROR),
        }
        return [self.chat("/chat/completions", documentation)]

    async def read(self, body: Body, request_id: str, default_model: str) -> Asked:
        return await request.read(body, request_id, default_model)
