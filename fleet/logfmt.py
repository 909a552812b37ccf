"""logfmt, as its parsers read it: ``key=value`` pairs, with quotes around a value that needs them."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

FIRST = ("time", "level", "process", "event")

_NO_KEY = re.compile(r'[\x00-\x20="\x7f]')
_BARE = re.compile(r'[^\x00-\x20="\x7f]+')


def line(_: Any, __: str, event: Mapping[str, Any]) -> str:
    """One event as a line; a renderer of structlog's."""
    first = [(name, event[name]) for name in FIRST if name in event]
    rest = [(name, value) for name, value in event.items() if name not in FIRST]
    return " ".join(f"{_NO_KEY.sub('_', name)}={_value(value)}" for name, value in first + rest)


def _value(value: Any) -> str:
    """Lists and objects are JSON: their readers have one for it."""
    match value:
        case str():
            return _text(value)
        case None | bool() | Mapping() | list() | tuple() | set() | frozenset():
            return _text(_json(value))
        case _:
            return _text(str(value))


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_plain)


def _plain(value: Any) -> Any:
    return sorted(value, key=str) if isinstance(value, Iterable) else str(value)


def _text(text: str) -> str:
    if text.isprintable():
        return text if _BARE.fullmatch(text) else json.dumps(text, ensure_ascii=False)
    return json.dumps(text)
