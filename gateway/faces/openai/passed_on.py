"""``/v1/completions`` and ``/v1/embeddings``: passed on to a model that has them, and answered as the model answers."""

import time
from collections.abc import Callable, Iterable
from typing import ClassVar

import msgspec
from pydantic import BaseModel, Field, StrictBool, StrictStr
from starlette.responses import Response

from fleet.process.turns import Steps
from gateway.chats.reply import Completed, End
from gateway.errors import GatewayError, Unsupported
from gateway.faces.bodies import Body
from gateway.faces.body import Fields
from gateway.faces.encoder import Encoder
from gateway.faces.face import Asked, Face, Json, Route, json_refusal
from gateway.faces.line import dumps, escaped
from gateway.faces.openai.encoder import OpenAIFormat, error_body
from gateway.faces.openai.face import ERROR
from gateway.faces.openapi import TEXT, json_response, refusals, schema
from protos import chat_pb2 as pb

ANSWER = "answer"
"""The kind of the events that hold the answer's text."""

INPUT: Json = {"description": "text, a list of texts, or tokens; the model's server checks it"}
EVENTS: Json = {"schema": {"type": "string", "description": "the model's events, with stream: true; then [DONE]"}}


class Own(BaseModel):
    """What is read of a body; everything else is the model's affair. The model may be named in the path instead."""

    model: StrictStr = Field(default="", max_length=1000)
    stream: StrictBool | None = None


class PassedOn(Face):
    """One endpoint; ``text`` is the field that holds what is asked."""

    endpoint: ClassVar[str]
    summary: ClassVar[str]
    text: ClassVar[str]
    streams: ClassVar[bool]
    max_values = 1_000_000
    """OpenAI takes 300,000 tokens at once, each of which is a value; some servers take more."""

    def routes(self) -> list[Route]:
        fields: Json = {"model": {**TEXT, "minLength": 1, "maxLength": 1000}, self.text: INPUT}
        if self.streams:
            fields["stream"] = {"type": ["boolean", "null"]}
        body: Json = {"schema": schema("model", **fields)}
        answer = json_response("what the model answers", {"type": "object"})
        if self.streams:
            answer["content"][Events.media_type] = EVENTS
        documentation: Json = {
            "name": self.name,
            "summary": self.summary,
            "description": f"Passed on to a model whose entry in models.yaml has {self.endpoint} among its endpoints.",
            "tags": ["openai"],
            "openapi_extra": {"requestBody": {"required": True, "content": {"application/json": body}}},
            "responses": {200: answer, **refusals(ERROR)},
        }
        return [self.chat(self.prefix, documentation)]

    async def read(self, body: Body, request_id: str, default_model: str) -> Asked:
        async with body.work() as turn:
            fields = Fields(body)
            await turn.pause()
            asked = fields.check(Own)
            if asked.stream and not self.streams:
                raise Unsupported("stream", f"{self.endpoint} are not streamed")
            fields.members.pop("model", None)
            await turn.pause()
            text = msgspec.json.encode(fields.members)
            await turn.pause()
            history = pb.ChatHistory(request_id=request_id, model=asked.model, endpoint=self.endpoint, body=text)
        stream = bool(asked.stream)

        def encoder(model: Callable[[], str]) -> Encoder:
            return Events(request_id, model) if stream else Text()

        return Asked(history, True, encoder, waits=not stream)

    def refusal(self, error: GatewayError, request_id: str) -> Response:
        return json_refusal(error, error_body(error, request_id))


class Completions(PassedOn):
    name = endpoint = "completions"
    summary = "Complete a text (OpenAI)"
    prefix = "/v1/completions"
    text = "prompt"
    streams = True


class Embeddings(PassedOn):
    name = endpoint = "embeddings"
    summary = "Embed texts (OpenAI)"
    prefix = "/v1/embeddings"
    text = "input"
    streams = False


class Text:
    """The answer's text, in chunks as it comes; see :class:`gateway.faces.encoder.Encoder`."""

    media_type = "application/json"

    def begin(self) -> bytes:
        return b""

    def event(self, event: pb.ReplyEvent) -> bytes:
        return event.custom.json.encode() if event.custom.kind == ANSWER else b""

    def end(self, end: End) -> bytes:
        return b""

    def ping(self) -> bytes:
        return b""

    def whole(self, events: Iterable[pb.ReplyEvent], end: Completed) -> Steps[bytes]:
        raise NotImplementedError("every answer is passed on as it comes")


class Events(Text):
    """The answer's text is server-sent events. A long one comes in several parts, between which nothing fits."""

    media_type = OpenAIFormat.media_type

    def __init__(self, request_id: str, model: Callable[[], str]) -> None:
        self._request_id = request_id
        self._model = model
        self._created = int(time.time())
        self._is_within = False

    def event(self, event: pb.ReplyEvent) -> bytes:
        text = escaped(super().event(event))
        if text:
            self._is_within = not text.endswith(b"\n\n")
        return text

    def end(self, end: End) -> bytes:
        if isinstance(end, GatewayError):
            error = dumps({"error": error_body(end, self._request_id)})
            return b"%bdata: %b\n\n" % (b"\n\n" if self._is_within else b"", error)
        return b"data: [DONE]\n\n"

    def ping(self) -> bytes:
        """A chunk without text, as in chats; none within an event."""
        if self._is_within:
            return b""
        choice = {"text": "", "index": 0, "logprobs": None, "finish_reason": None}
        head = {"id": f"cmpl-{self._request_id}", "object": "text_completion", "created": self._created}
        return b"data: %b\n\n" % dumps({**head, "model": self._model(), "choices": [choice]})
