"""JSON without line breaks, which end an event or a line: not even Unicode's, at which some clients split too."""

from typing import Any

import orjson

from fleet.process.turns import Steps

ESCAPES = ((b"\xe2\x80\xa8", rb"\u2028"), (b"\xe2\x80\xa9", rb"\u2029"), (b"\xc2\x85", rb"\u0085"))


def dumps(value: Any) -> bytes:
    """``value`` as JSON without ASCII's line breaks and without Unicode's."""
    return escaped(orjson.dumps(value))


def escaped(encoded: bytes) -> bytes:
    """JSON with U+0085, U+2028 and U+2029 escaped: it has them in strings only, where an escape is allowed."""
    for character, escape in ESCAPES:
        encoded = encoded.replace(character, escape)
    return encoded


def dumps_large(value: Any) -> Steps[bytes]:
    """The same as :func:`dumps`, in steps."""
    encoded = orjson.dumps(value)
    for character, escape in ESCAPES:
        yield
        encoded = encoded.replace(character, escape)
    return encoded


def dumps_text(text: str) -> bytes:
    """The same for a string; faster for one that needs no escape, as nearly all do."""
    if text.isascii() or not ("\u2028" in text or "\u2029" in text or "\x85" in text):
        return orjson.dumps(text)
    return dumps(text)
