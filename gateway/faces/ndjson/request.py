"""What ``POST /chat/completions`` takes: the seed's conversation."""

from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictStr

from gateway.faces.bodies import Body
from gateway.faces.body import MAX_MESSAGES, Fields, check
from protos import chat_pb2 as pb


class ChatTurn(BaseModel):
    """One turn of the conversation."""

    model_config = ConfigDict(extra="ignore")

    source: StrictStr = Field(min_length=1, max_length=1000)
    """``user``, ``system``, or the name of the agent that spoke, which makes it an assistant's turn."""
    content: StrictStr


class Parameters(BaseModel):
    """The fields that are checked together; none of them is large."""

    stream: StrictBool = True
    model: StrictStr | None = Field(default=None, max_length=1000)


class ChatBody(Parameters):
    """What ``POST /chat/completions`` takes."""

    messages: list[ChatTurn] = Field(min_length=1, max_length=MAX_MESSAGES)


KNOWN = frozenset(ChatBody.model_fields)


@dataclass(frozen=True)
class Conversation:
    """A request that can be served."""

    history: pb.ChatHistory
    stream: bool


async def read(body: Body, request_id: str, default_model: str) -> Conversation:
    """What ``body`` asks for. Raises a :class:`GatewayError` that names the field at fault."""
    async with body.work() as turn:
        fields = Fields(body.text, KNOWN, finite=body.outline.finite)
        await turn.pause()
        asked = fields.check(Parameters)
        history = pb.ChatHistory(request_id=request_id, model=asked.model or default_model)
        for index, text in enumerate(fields.items("messages", MAX_MESSAGES, needed=True)):
            await turn.pause()
            said = check(ChatTurn.model_validate_json, text, ("messages", index))
            made = history.messages.add(role=_role(said.source), source=said.source)
            made.content.add(text=said.content)
        return Conversation(history, asked.stream)


def _role(source: str) -> pb.Role:
    return {"user": pb.ROLE_USER, "system": pb.ROLE_SYSTEM}.get(source, pb.ROLE_ASSISTANT)
