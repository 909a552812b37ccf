"""A request's body: read within bounds, and checked with an error that names the field."""

import asyncio
from typing import TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from gateway.errors import BodyTooLarge, InvalidField, MalformedBody

BodyT = TypeVar("BodyT", bound=BaseModel)

DISCARD_LIMIT = 256 * 1024 * 1024
"""Bytes of a too large body that are read and thrown away, so that its sender gets to read the answer."""

MAX_MESSAGES = 10_000
"""Of one request: a message of 40 bytes costs the gateway, the bus and the worker as much as one of 4 KiB."""

TAG = "="
"""What the tag of a union's member begins with: no field of a body does."""

_SAID = {
    "missing": "is missing",
    "string_type": "must be a string",
    "bool_type": "must be true or false",
    "list_type": "must be a list",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "dict_type": "must be an object",
    "too_short": "must not be empty",
    "string_too_short": "must not be empty",
    "too_long": "is too long",
    "string_too_long": "is too long",
}


async def read_body(request: Request, limit: int, timeout: float) -> bytes:
    """The body's bytes. Raises :class:`BodyTooLarge`, or :class:`MalformedBody` when it does not arrive in time."""
    try:
        async with asyncio.timeout(timeout):
            return await _read(request, limit)
    except TimeoutError:
        raise MalformedBody("body_timeout", f"the body did not arrive within {timeout:g} s", status=408) from None


async def _read(request: Request, limit: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            parts.clear()
            if size > DISCARD_LIMIT:
                break
        else:
            parts.append(part)
    if size > limit:
        raise BodyTooLarge(limit)
    return b"".join(parts)


def parse(kind: type[BodyT], body: bytes) -> BodyT:
    """``body`` as ``kind``. Raises :class:`MalformedBody` or :class:`InvalidField`, in one sentence."""
    if not body.strip():
        raise MalformedBody("invalid_json", "the body is empty: it must be a JSON object")
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False, include_context=True)[0]
    if problem["type"] == "json_invalid":
        reason = problem.get("ctx", {}).get("error", "it cannot be parsed")
        raise MalformedBody("invalid_json", f"the body is not JSON: {reason}")
    name = _name(problem["loc"])
    raise InvalidField(_sentence(name, problem), name or None)


def _name(loc: tuple[int | str, ...]) -> str:
    """Where the problem is, as a path into the body. Tags of unions, which pydantic counts in, are no fields."""
    name = ""
    for part in loc:
        if isinstance(part, str) and part.startswith(TAG):
            continue
        name += f"[{part}]" if isinstance(part, int) else f".{part}" if name else str(part)
    return name


def _sentence(name: str, problem: ErrorDetails) -> str:
    if problem["type"] == "union_tag_invalid":
        context = problem.get("ctx", {})
        expected = str(context.get("expected_tags", "")).replace(TAG, "")
        return f"{name} has {str(context.get('tag', '')).removeprefix(TAG)!r} where {expected} are known"
    if problem["type"] == "union_tag_not_found":
        return f"{name} needs one of the fields that tell its kind: role, or type"
    said = _SAID.get(problem["type"]) or problem["msg"][:1].lower() + problem["msg"][1:]
    if not name:
        return "the body must be a JSON object" if problem["type"] == "model_type" else f"the body {said}"
    return f"{name} {said}"
