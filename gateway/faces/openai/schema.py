"""The body of ``POST /v1/chat/completions``, as far as a fleet of AutoGen agents can serve it."""

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    FiniteFloat,
    Strict,
    StrictBool,
    StrictInt,
    StrictStr,
    Tag,
    WithJsonSchema,
)

from gateway.faces.body import MAX_MESSAGES, MAX_PARTS, TAG

INT64 = 2**63 - 1
NAME = r"^[A-Za-z0-9_-]{1,64}$"
PARTS = Field(max_length=MAX_PARTS, fail_fast=True)
Json = dict[str, Any]


def _by_field(field: str) -> Discriminator:

    def tag(value: Any) -> str | None:
        found = value.get(field) if isinstance(value, dict) else getattr(value, field, None)
        return TAG + found if isinstance(found, str) else None

    return Discriminator(tag)


def _text_or(other: str) -> Discriminator:
    return Discriminator(lambda value: TAG + "text" if isinstance(value, str) else TAG + other)


class _Model(BaseModel):
    model_config = ConfigDict(extra="ignore")


class TextPart(_Model):
    type: Literal["text"]
    text: StrictStr


class RefusalPart(_Model):
    type: Literal["refusal"]
    refusal: StrictStr


class ImageUrl(_Model):
    """Where an image is, or the image itself as a data URL."""

    url: StrictStr = Field(pattern=r"^(https?://|data:image/[A-Za-z0-9.+-]+;base64,)")
    detail: Literal["auto", "low", "high"] | None = None


class ImagePart(_Model):
    type: Literal["image_url"]
    image_url: ImageUrl


_PlainText = Annotated[StrictStr, Tag(TAG + "text")]
_Text = Annotated[TextPart, Tag(TAG + "text")]
OnlyText = Annotated[_Text, _by_field("type")]
UserPart = Annotated[_Text | Annotated[ImagePart, Tag(TAG + "image_url")], _by_field("type")]
AssistantPart = Annotated[_Text | Annotated[RefusalPart, Tag(TAG + "refusal")], _by_field("type")]
TextContent = Annotated[_PlainText | Annotated[list[TextPart], PARTS, Tag(TAG + "parts")], _text_or("parts")]
UserContent = Annotated[_PlainText | Annotated[list[UserPart], PARTS, Tag(TAG + "parts")], _text_or("parts")]
AssistantContent = Annotated[_PlainText | Annotated[list[AssistantPart], PARTS, Tag(TAG + "parts")], _text_or("parts")]


class FunctionCall(_Model):
    name: StrictStr = Field(min_length=1, max_length=256)
    """Bounded because it is copied into each of the call's results."""
    arguments: StrictStr


class ToolCall(_Model):
    id: StrictStr = Field(min_length=1)
    type: Literal["function"] = "function"
    function: FunctionCall


class SystemMessage(_Model):
    role: Literal["system", "developer"]
    content: TextContent
    name: StrictStr | None = None


class UserMessage(_Model):
    role: Literal["user"]
    content: UserContent
    name: StrictStr | None = None


class AssistantMessage(_Model):
    role: Literal["assistant"]
    content: AssistantContent | None = None
    refusal: StrictStr | None = None
    name: StrictStr | None = None
    tool_calls: Annotated[list[ToolCall], PARTS] | None = None


class ToolMessage(_Model):
    role: Literal["tool"]
    content: TextContent
    tool_call_id: StrictStr = Field(min_length=1)


Message = Annotated[
    Annotated[SystemMessage, Tag(TAG + "system")]
    | Annotated[SystemMessage, Tag(TAG + "developer")]
    | Annotated[UserMessage, Tag(TAG + "user")]
    | Annotated[AssistantMessage, Tag(TAG + "assistant")]
    | Annotated[ToolMessage, Tag(TAG + "tool")],
    _by_field("role"),
]


class Function(_Model):
    name: StrictStr = Field(pattern=NAME)
    description: StrictStr | None = None
    parameters: Json | None = None
    strict: StrictBool | None = None


class Tool(_Model):
    type: Literal["function"]
    function: Function


class FunctionName(_Model):
    name: StrictStr = Field(min_length=1)


class NamedToolChoice(_Model):
    type: Literal["function"]
    function: FunctionName


ToolChoice = Annotated[
    Annotated[Literal["none", "auto", "required"], Tag(TAG + "text")] | Annotated[NamedToolChoice, Tag(TAG + "tool")],
    _text_or("tool"),
]


class JsonSchema(_Model):
    model_config = ConfigDict(extra="allow")

    name: StrictStr = Field(pattern=NAME)


class ResponseFormat(_Model):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class StreamOptions(_Model):
    include_usage: StrictBool | None = None


Stop = Annotated[_PlainText | Annotated[list[StrictStr], PARTS, Tag(TAG + "list")], _text_or("list")]

Number = Annotated[float, Strict()]
"""Strict: otherwise ``true`` and ``"1"`` would count as numbers."""

One = Annotated[StrictInt, WithJsonSchema({"type": "integer", "const": 1})]
"""Documented as 1. Other integers are parsed too, so that the error can name ``n``."""


class ModelOptions(BaseModel):
    """The fields that go to the model unchanged."""

    parallel_tool_calls: StrictBool | None = None
    temperature: Number | None = Field(default=None, ge=0, le=2)
    top_p: Number | None = Field(default=None, ge=0, le=1)
    max_tokens: StrictInt | None = Field(default=None, ge=1, le=INT64)
    max_completion_tokens: StrictInt | None = Field(default=None, ge=1, le=INT64)
    stop: Stop | None = None
    seed: StrictInt | None = Field(default=None, ge=-INT64 - 1, le=INT64)
    presence_penalty: Number | None = Field(default=None, ge=-2, le=2)
    frequency_penalty: Number | None = Field(default=None, ge=-2, le=2)
    logit_bias: dict[str, FiniteFloat] | None = Field(default=None, max_length=MAX_PARTS)
    logprobs: StrictBool | None = None
    top_logprobs: StrictInt | None = Field(default=None, ge=0, le=20)
    reasoning_effort: StrictStr | None = Field(default=None, max_length=100)
    user: StrictStr | None = Field(default=None, max_length=1000)
    metadata: dict[str, StrictStr] | None = Field(default=None, max_length=MAX_PARTS)


class Parameters(ModelOptions):
    """The fields that are small enough to be checked in one step."""

    model: StrictStr | None = Field(default=None, max_length=1000)
    stream: StrictBool | None = None
    stream_options: StreamOptions | None = None
    n: One | None = None
    tool_choice: ToolChoice | None = None


class CompletionBody(Parameters):
    """OpenAI's chat completion request. Fields that are not named here are ignored, and counted."""

    model_config = ConfigDict(extra="allow")

    messages: list[Message] = Field(min_length=1, max_length=MAX_MESSAGES)
    tools: Annotated[list[Tool], PARTS] | None = None
    response_format: ResponseFormat | None = None
