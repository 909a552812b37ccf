"""What a model cannot do, by its entry in ``models.yaml``: then its server is not asked."""

from typing import Any

import msgspec
from autogen_core.models import ModelInfo
from msgspec import Raw

from fleet.process.turns import Turn
from protos import chat_pb2 as pb
from worker.contract.errors import Unsupported

IMAGES = frozenset({"image_url", "input_image", "image"})
"""Kinds of parts that hold an image."""

FORMATS = {"json_object": "json_output", "json_schema": "structured_output"}
"""Types of response formats, and the capability that each needs."""

_EMPTY = (Raw(b"null"), Raw(b"[]"))


class _Typed(msgspec.Struct):
    type: Any = None


async def check(request: pb.ChatHistory, info: ModelInfo, turn: Turn) -> None:
    """Raise :class:`Unsupported` if ``request`` needs what ``info`` denies."""
    options = request.options
    if info.get("vision") is False:
        for message in request.messages:
            await turn.pause()
            if any(map(_is_image, message.content)):
                raise _lacking("images", "vision")
    if info.get("function_calling") is False and (options.tools or _has_functions(options.other)):
        raise _lacking("tools", "function_calling")
    if options.response_format:
        format_ = _type(options.response_format)
        capability = FORMATS.get(format_)
        if capability is not None and info.get(capability) is False:
            raise _lacking(f"response_format of type {format_}", capability)


def _is_image(part: pb.ContentPart) -> bool:
    kind = part.WhichOneof("part")
    return kind == "image" or (kind == "other" and _type(part.other) in IMAGES)


def _has_functions(other: str) -> bool:
    functions = msgspec.json.decode(other, type=dict[str, Raw]).get("functions") if other else None
    return functions is not None and functions not in _EMPTY


def _type(text: str) -> str:
    return str(msgspec.json.decode(text, type=_Typed).type)


def _lacking(what: str, capability: str) -> Unsupported:
    return Unsupported(f"this model does not take {what}: {capability} is false in its entry of models.yaml")
