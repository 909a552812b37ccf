"""``POST /plain``: a prompt in JSON, the reply as plain text."""

from collections.abc import Iterable

from pydantic import BaseModel, StrictStr
from starlette.responses import PlainTextResponse, Response

from fleet.process.turns import Steps
from gateway.chats.reply import Completed, End
from gateway.errors import GatewayError
from gateway.faces.bodies import Body
from gateway.faces.body import Fields
from gateway.faces.face import Asked, Face, Route
from protos import chat_pb2 as pb


class Question(BaseModel):
    model: StrictStr = ""
    prompt: StrictStr


class PlainFace(Face):
    name = "plain"
    prefix = "/plain"

    def routes(self) -> list[Route]:
        reply = {"description": "the reply", "content": {"text/plain": {}}}
        return [self.chat("/plain", {"summary": "Answer in plain text", "responses": {200: reply}})]

    async def read(self, body: Body, request_id: str, default_model: str) -> Asked:
        async with body.work():
            question = Fields(body).check(Question)
        history = pb.ChatHistory(request_id=request_id, model=question.model or default_model)
        history.messages.add(role=pb.ROLE_USER, source="user").content.add(text=question.prompt)
        return Asked(history, stream=True, encoder=lambda _: PlainText())

    def refusal(self, error: GatewayError, request_id: str) -> Response:
        return PlainTextResponse(f"{error.code}: {error.message}\n", error.status, error.headers())


class PlainText:
    media_type = "text/plain; charset=utf-8"

    def begin(self) -> bytes:
        return b""

    def event(self, event: pb.ReplyEvent) -> bytes:
        return event.text.encode()

    def end(self, end: End) -> bytes:
        return f"\n[{end.code}: {end.message}]\n".encode() if isinstance(end, GatewayError) else b"\n"

    def ping(self) -> bytes:
        return b""

    def whole(self, events: Iterable[pb.ReplyEvent], end: Completed) -> Steps[bytes]:
        raise NotImplementedError("every reply is streamed")
