"""Reads the body of ``POST /chat/completions``: the seed's conversation."""

from msgspec import Raw
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictStr

from gateway.errors import InvalidField
from gateway.faces.bodies import Body
from gateway.faces.body import MAX_MESSAGES, Fields, check, members
from gateway.faces.face import Asked
from gateway.faces.ndjson.encoder import Ndjson
from protos import chat_pb2 as pb

ROLES = {"user": pb.ROLE_USER, "system": pb.ROLE_SYSTEM}


class ChatTurn(BaseModel):
    model_config = ConfigDict(extra="ignore")

    source: StrictStr = Field(min_length=1, max_length=1000)
    """``user``, ``system``, or the name of an agent, whose turns are the assistant's."""
    content: StrictStr


class Parameters(BaseModel):
    """The fields that are small enough to be checked in one step."""

    stream: StrictBool = True
    model: StrictStr | None = Field(default=None, max_length=1000)


class ChatBody(Parameters):
    messages: list[ChatTurn] = Field(min_length=1, max_length=MAX_MESSAGES)


OPENAI = "Messages with a role belong to OpenAI's API: set the client's base URL to this server's /v1"


async def read(body: Body, request_id: str, default_model: str) -> Asked:
    async with body.work() as turn:
        fields = Fields(body)
        await turn.pause()
        asked = fields.check(Parameters)
        history = pb.ChatHistory(request_id=request_id, model=asked.model or default_model)
        for index, text in enumerate(fields.items("messages", MAX_MESSAGES, needed=True)):
            await turn.pause()
            said = _turn(text, index)
            made = history.messages.add(role=ROLES.get(said.source, pb.ROLE_ASSISTANT), source=said.source)
            made.content.add(text=said.content)
        return Asked(history, asked.stream, lambda _: Ndjson(request_id))


def _turn(text: Raw, index: int) -> ChatTurn:
    try:
        return check(ChatTurn.model_validate_json, text, ("messages", index))
    except InvalidField as error:
        if "role" not in (members(text, ("messages", index)) or {}):
            raise
        raise InvalidField(f"{error.message}. {OPENAI}", error.param) from None
