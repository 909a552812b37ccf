"""Checks a request's body field by field, with errors that name the field.

Everything that is sent on stays JSON text, and lists are read item by item, so that no step takes long.
"""

from collections.abc import Callable
from typing import TypeVar

import msgspec
from msgspec import Raw
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from fleet.process.turns import Turn
from gateway.errors import InvalidField, MalformedBody
from gateway.faces.bodies import Body
from gateway.faces.outline import WINDOW, Outline

T = TypeVar("T")
BodyT = TypeVar("BodyT", bound=BaseModel)

MAX_MESSAGES = 10_000
"""Of one request: a message of 40 bytes costs the gateway, the bus and the worker as much as one of 4 KiB."""

MAX_PARTS = 1000
"""Parts of a message, calls of a turn, tools, stop words, members of an object that is taken apart: each costs far more
than its few bytes."""

TAG = "="
"""Begins the tags of unions, so that they can be told from fields in pydantic's error locations."""

Place = tuple[int | str, ...]

Members = dict[str, Raw]

NULL = Raw(b"null")

MESSAGES = {
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
    "string_pattern_mismatch": "must be a URL, such as https://host/image.png or data:image/png;base64,...",
}
"""Our words for pydantic's error types; any other has pydantic's message."""


class Fields:
    """A body's fields as JSON text.

    Raises :class:`MalformedBody`, or :class:`InvalidField` if it is no object of at most :data:`MAX_PARTS` members.
    Use it in ``body.work()``.
    """

    def __init__(self, body: Body) -> None:
        if not body.text or body.text.isspace():
            raise MalformedBody("invalid_json", "the body is empty: it must be a JSON object")
        try:
            self.members = msgspec.json.decode(body.text, type=Members)
        except msgspec.ValidationError:
            raise InvalidField("the body must be a JSON object") from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise _not_json(str(error).removeprefix("JSON is malformed: ")) from None
        if len(self.members) > MAX_PARTS:
            raise _too_many(self.members, "the body", None)
        self._finite = body.outline.finite

    def get(self, name: str) -> Raw | None:
        """A field's text; None where it is missing or null."""
        raw = self.members.get(name)
        return None if raw == NULL else raw

    def check(self, kind: type[BodyT]) -> BodyT:
        known = kind.model_fields
        own = {name: raw for name, raw in self.members.items() if name in known}
        return check(kind.model_validate_json, msgspec.json.encode(own))

    def items(self, name: str, most: int, *, needed: bool = False) -> list[Raw]:
        """A list's items. A ``needed`` list must not be missing, null or empty."""
        if not needed and self.get(name) is None:
            return []
        if name not in self.members:
            raise InvalidField(f"{name} is missing", name)
        items = elements(self.members[name], (name,), most)
        if needed and not items:
            raise InvalidField(f"{name} must not be empty", name)
        return items

    async def passed_on(self, text: Raw | bytes, place: Place, turn: Turn) -> str:
        """Any value, as it is sent to a worker."""
        view = memoryview(text)
        if not self._finite and not await _is_finite(view, turn):
            raise InvalidField(f"{path(place)} holds a number that is not finite", path(place))
        return str(view, "utf-8")

    async def object(self, given: Members, place: Place, turn: Turn) -> str:
        """An object of these members, as it is sent to a worker; empty for none. ``place`` is what they belong to."""
        if not given:
            return ""
        if not self._finite:
            for member, text in given.items():
                await self.passed_on(text, (*place, member[:100]), turn)
        return msgspec.json.encode(given).decode()


async def _is_finite(text: memoryview, turn: Turn) -> bool:
    outline = Outline()
    for start in range(0, len(text), WINDOW):
        await turn.pause()
        outline.feed(text[start : start + WINDOW])
    outline.end()
    return outline.finite


def members(text: Raw | None, place: Place) -> Members | None:
    """An object's members, at most :data:`MAX_PARTS`; None if it is not an object."""
    try:
        found = msgspec.json.decode(text, type=Members) if text is not None else None
    except msgspec.ValidationError:
        return None
    if found is not None and len(found) > MAX_PARTS:
        raise _too_many(found, path(place), path(place))
    return found


def first(text: Raw) -> bytes:
    """A value's first byte, which tells its type."""
    return bytes(memoryview(text)[:1])


def only(given: Members, *names: str) -> Members:
    return {name: given[name] for name in names if name in given}


def without(given: Members, *names: str) -> Members:
    return {name: text for name, text in given.items() if name not in names}


def within(name: str, given: Members) -> Members:
    """An object of the one member ``name``, which is an object of these; none of none."""
    return {name: Raw(msgspec.json.encode(given))} if given else {}


def _too_many(found: Members, name: str, param: str | None) -> InvalidField:
    return InvalidField(f"{name} has {len(found):,} entries where {MAX_PARTS:,} are allowed", param)


def elements(text: Raw, place: Place, most: int) -> list[Raw]:
    try:
        items = msgspec.json.decode(text, type=list[Raw])
    except msgspec.ValidationError:
        raise InvalidField(f"{path(place)} must be a list", path(place)) from None
    if len(items) > most:
        raise InvalidField(f"{path(place)} has {len(items):,} items where {most:,} are allowed", path(place))
    return items


def check(validate: Callable[[bytes], T], text: Raw | bytes, place: Place = ()) -> T:
    """Validate a text that is at ``place`` in the body. Raises :class:`InvalidField`."""
    try:
        return validate(bytes(text))
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False, include_context=True)[0]
    if problem["type"] == "json_invalid":
        raise _not_json(str(problem.get("ctx", {}).get("error", "it cannot be parsed")))
    name = path(place + problem["loc"])
    raise InvalidField(_sentence(name, problem), name or None)


def _not_json(reason: str) -> MalformedBody:
    return MalformedBody("invalid_json", f"the body is not JSON: {reason}")


def path(loc: Place) -> str:
    """A place's name, as errors give it."""
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
        return f"{name} has {str(context.get('tag', '')).removeprefix(TAG)[:100]!r} where {expected} are known"
    if problem["type"] == "union_tag_not_found":
        return f"{name} needs one of the fields that tell its kind: role, or type"
    return f"{name} " + (MESSAGES.get(problem["type"]) or problem["msg"][:1].lower() + problem["msg"][1:])
