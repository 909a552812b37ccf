"""What ``POST /chat/completions`` takes: the seed's conversation."""

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictStr

from gateway.body import MAX_MESSAGES
from protos import chat_pb2 as pb


class ChatTurn(BaseModel):
    """One turn of the conversation."""

    model_config = ConfigDict(extra="ignore")

    source: StrictStr = Field(min_length=1, max_length=1000)
    """``user``, ``system``, or the name of the agent that spoke, which makes it an assistant's turn."""
    content: StrictStr


class ChatBody(BaseModel):
    """What ``POST /chat/completions`` takes."""

    model_config = ConfigDict(extra="ignore")

    messages: list[ChatTurn] = Field(min_length=1, max_length=MAX_MESSAGES, fail_fast=True)
    stream: StrictBool = True
    model: StrictStr | None = Field(default=None, max_length=1000)


def history(body: ChatBody, request_id: str, default_model: str) -> pb.ChatHistory:
    """The body as what goes to a worker."""
    return pb.ChatHistory(
        request_id=request_id,
        model=body.model or default_model,
        messages=[
            pb.ChatMessage(role=_role(turn.source), source=turn.source, content=[pb.ContentPart(text=turn.content)])
            for turn in body.messages
        ],
    )


def _role(source: str) -> pb.Role:
    return {"user": pb.ROLE_USER, "system": pb.ROLE_SYSTEM}.get(source, pb.ROLE_ASSISTANT)
