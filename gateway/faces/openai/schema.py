"""The body of ``POST /v1/chat/completions``: what is checked of it. Everything else goes to the model unchecked."""

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Strict,
    StrictBool,
    StrictInt,
    StrictStr,
    Tag,
    WithJsonSchema,
)

from gateway.faces.body import MAX_MESSAGES, MAX_PARTS, TAG

PARTS = Field(max_length=MAX_PARTS, fail_fast=True)
Json = dict[str, Any]

URL = r"^\s*[A-Za-z][A-Za-z0-9+.-]*:"
"""Whatever a provider may load: ``https``, ``data`` and others, in any case."""


def _by_field(field: str, *known: str, missing: str | None = None) -> Discriminator:
    """By a field's text: the ``known`` ones, where given, and TAG + "other" for the rest."""

    def tag(value: Any) -> str | None:
        found = value.get(field) if isinstance(value, dict) else getattr(value, field, None)
        if isinstance(found, str):
            return TAG + (found if not known or found in known else "other")
        return TAG + missing if missing and found is None else None

    return Discriminator(tag)


def _text_or(other: str) -> Discriminator:
    return Discriminator(lambda value: TAG + "text" if isinstance(value, str) else TAG + other)


class _Model(BaseModel):
    model_config = ConfigDict(extra="ignore")


class TextPart(_Model):
    type: Literal["text"]
    text: StrictStr


class ImageUrl(_Model):
    """Where an image is, or the image itself as a data URL."""

    url: StrictStr = Field(pattern=URL)
    detail: StrictStr | None = None


class ImagePart(_Model):
    type: Literal["image_url"]
    image_url: Annotated[
        Annotated[StrictStr, Field(pattern=URL), Tag(TAG + "text")] | Annotated[ImageUrl, Tag(TAG + "object")],
        _text_or("object"),
    ]


class Other(_Model):
    """A part, tool or call of another kind, such as ``file`` or ``input_audio``: it goes to the model as it is."""

    model_config = ConfigDict(extra="allow")

    type: StrictStr


_PlainText = Annotated[StrictStr, Tag(TAG + "text")]
_Other = Annotated[Other, Tag(TAG + "other")]
Part = Annotated[
    Annotated[TextPart, Tag(TAG + "text")] | Annotated[ImagePart, Tag(TAG + "image_url")] | _Other,
    _by_field("type", "text", "image_url"),
]
Content = Annotated[_PlainText | Annotated[list[Part], PARTS, Tag(TAG + "parts")], _text_or("parts")] | None


class FunctionCall(_Model):
    name: StrictStr = Field(min_length=1, max_length=256)
    """Bounded because it is copied into each of the call's results."""
    arguments: Annotated[_PlainText | Annotated[Json, Tag(TAG + "object")], _text_or("object")] | None = None
    """Text, by OpenAI's rule; some clients send the object, or leave out what is empty."""


class FunctionToolCall(_Model):
    id: StrictStr = Field(min_length=1)
    type: Literal["function"] = "function"
    function: FunctionCall


ToolCall = Annotated[
    Annotated[FunctionToolCall, Tag(TAG + "function")] | _Other, _by_field("type", "function", missing="function")
]


class SystemMessage(_Model):
    role: Literal["system", "developer"]
    content: Content
    name: StrictStr | None = None


class UserMessage(_Model):
    role: Literal["user"]
    content: Content
    name: StrictStr | None = None


class AssistantMessage(_Model):
    role: Literal["assistant"]
    content: Content = None
    refusal: StrictStr | None = None
    name: StrictStr | None = None
    tool_calls: Annotated[list[ToolCall], PARTS] | None = None


class ToolMessage(_Model):
    role: Literal["tool"]
    content: Content
    tool_call_id: StrictStr = Field(min_length=1)


class FunctionMessage(_Model):
    """The former shape of a tool's result."""

    role: Literal["function"]
    content: Content
    name: StrictStr = Field(min_length=1)


Message = Annotated[
    Annotated[SystemMessage, Tag(TAG + "system")]
    | Annotated[SystemMessage, Tag(TAG + "developer")]
    | Annotated[UserMessage, Tag(TAG + "user")]
    | Annotated[AssistantMessage, Tag(TAG + "assistant")]
    | Annotated[ToolMessage, Tag(TAG + "tool")]
    | Annotated[FunctionMessage, Tag(TAG + "function")],
    _by_field("role"),
]


class Function(_Model):
    name: StrictStr = Field(min_length=1)
    description: StrictStr | None = None
    parameters: Json | None = None
    strict: StrictBool | None = None


class FunctionTool(_Model):
    type: Literal["function"]
    function: Function


class OtherTool(Other):
    """A tool of the provider, or a custom one."""

    type: StrictStr | None = None  # type: ignore[assignment]


Tool = Annotated[
    Annotated[FunctionTool, Tag(TAG + "function")] | Annotated[OtherTool, Tag(TAG + "other")],
    _by_field("type", "function", missing="other"),
]

ToolChoice = Annotated[_PlainText | Annotated[Json, Tag(TAG + "object")], _text_or("object")]


class ResponseFormat(_Model):
    model_config = ConfigDict(extra="allow")

    type: StrictStr


class StreamOptions(_Model):
    include_usage: StrictBool | None = None


Stop = Annotated[_PlainText | Annotated[list[StrictStr], PARTS, Tag(TAG + "list")], _text_or("list")]

Number = Annotated[float, Strict()]
"""Strict: otherwise ``true`` and ``"1"`` would count as numbers. Ranges are the provider's affair."""

One = Annotated[StrictInt, WithJsonSchema({"type": "integer", "const": 1})]
"""Documented as 1. Other integers are parsed too, so that the error can name ``n``."""


class ModelOptions(BaseModel):
    """Fields that workers of every version send on."""

    parallel_tool_calls: StrictBool | None = None
    temperature: Number | None = None
    top_p: Number | None = None
    max_tokens: StrictInt | None = None
    max_completion_tokens: StrictInt | None = None
    stop: Stop | None = None
    seed: StrictInt | None = None
    presence_penalty: Number | None = None
    frequency_penalty: Number | None = None
    logit_bias: dict[str, Number] | None = Field(default=None, max_length=MAX_PARTS)
    logprobs: StrictBool | None = None
    top_logprobs: StrictInt | None = None
    reasoning_effort: StrictStr | None = None
    user: StrictStr | None = None
    metadata: dict[str, Any] | None = Field(default=None, max_length=MAX_PARTS)


class Parameters(ModelOptions):
    """The fields that are small enough to be checked in one step."""

    model: StrictStr | None = Field(default=None, max_length=1000)
    stream: StrictBool | None = None
    stream_options: StreamOptions | None = None
    n: One | None = None


class CompletionBody(Parameters):
    """OpenAI's chat completion request. Fields that are not named here go to the model as they are."""

    model_config = ConfigDict(extra="allow")

    messages: list[Message] = Field(min_length=1, max_length=MAX_MESSAGES)
    tools: Annotated[list[Tool], PARTS] | None = None
    tool_choice: ToolChoice | None = None
    response_format: ResponseFormat | None = None
