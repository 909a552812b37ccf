"""Bounds what a parser would build from a JSON text, by counting over its bytes as they arrive.

The counts hold for valid JSON, and for any other text up to where a parser refuses it. They are upper bounds: an empty
list or object counts as two values.
"""

import codecs
import re
from itertools import accumulate
from math import isfinite

from gateway.errors import MalformedBody

MAX_VALUES = 200_000
"""Values and members' names of a body. A message that calls a tool has 16, a message of one text part 10, a tool of
ten parameters about 100. The slowest body of this many, an object of distinct names, takes 40 ms to parse."""

MAX_NAMES = 100_000
"""Members' names of a body, which cost most. A body of :data:`MAX_VALUES` values cannot have more."""

MAX_DEPTH = 128

WINDOW = 64 * 1024
"""Bytes that are examined in one step, which takes up to 4 ms."""

_NOT_SHAPE = bytes(set(range(256)) - set(b"[]{}"))
_STEP = [0] * 256
for _bracket in b"[{":
    _STEP[_bracket] = 1
for _bracket in b"]}":
    _STEP[_bracket] = -1

_DIGITS_ALIKE = bytes.maketrans(b"123456789E", b"000000000e")
_MANY, _LARGE, _PLUS_LARGE = b"0" * 200, b"e000", b"e+000"
"""Every number that is not finite as a float has one of these: 200 digits, or an exponent of three digits."""
_NUMBER = re.compile(rb"-?[0-9][0-9.eE+-]*")
LONGEST_NUMBER = 1000
"""Bytes of a number; a longer one counts as not finite."""


class Outline:
    """Reads a text in windows of any size. Raises :class:`MalformedBody`, for invalid UTF-8 too."""

    def __init__(self, max_values: int = MAX_VALUES, max_depth: int = MAX_DEPTH) -> None:
        self.values = 1
        self.names = 0
        self.finite = True
        self._max_values = max_values
        self._max_depth = max_depth
        self._depth = 0
        self._in_string = False
        self._backslash = b""
        self._number = b""
        self._utf8 = codecs.getincrementaldecoder("utf-8")()

    def feed(self, window: bytes | memoryview) -> None:
        text = bytes(window)
        self._check_encoding(text, final=False)
        shape = self._outside_strings(text)
        self.names += (names := shape.count(b":"))
        self.values += shape.count(b",") + names + shape.count(b"[") + shape.count(b"{")
        if self.values > self._max_values or self.names > MAX_NAMES:
            raise _too_complex(f"the body has more than the {self._max_values:,} JSON values and names allowed here")
        brackets = shape.translate(None, _NOT_SHAPE)
        if brackets:
            depths = list(accumulate(map(_STEP.__getitem__, brackets), initial=self._depth))
            self._depth = depths[-1]
            if max(depths) > self._max_depth:
                raise _too_complex(f"the body nests lists and objects more than {self._max_depth} deep")
        self._check_numbers(shape)

    def end(self) -> None:
        self._check_encoding(b"", final=True)
        self._check_numbers(b" ")

    def _check_encoding(self, text: bytes, *, final: bool) -> None:
        if text.isascii() and not final and not self._utf8.getstate()[0]:
            return
        try:
            self._utf8.decode(text, final)
        except UnicodeDecodeError:
            raise MalformedBody("invalid_json", "the body is not JSON: it is not UTF-8 text") from None

    def _outside_strings(self, text: bytes) -> bytes:
        text = self._backslash + text
        self._backslash = b""
        if b"\\" in text:
            # Pairs first: after that, a backslash before a quote escapes it.
            text = text.replace(b"\\\\", b"")
            if text.endswith(b"\\"):
                self._backslash, text = b"\\", text[:-1]
            text = text.replace(b'\\"', b"")
        parts = text.split(b'"')
        outside = parts[1::2] if self._in_string else parts[::2]
        self._in_string ^= len(parts) % 2 == 0
        return b"".join(outside)

    def _check_numbers(self, shape: bytes) -> None:
        if not self.finite or not shape:
            return
        shape = self._number + shape
        whole = shape.rstrip(b"0123456789.eE+-")
        self._number = shape[len(whole) :]  # it may continue in the next window
        digits = whole.translate(_DIGITS_ALIKE)
        if _MANY in digits or _LARGE in digits or _PLUS_LARGE in digits:
            self.finite = all(map(_is_finite, _NUMBER.findall(whole)))
        self.finite = self.finite and len(self._number) <= LONGEST_NUMBER


def _is_finite(number: bytes) -> bool:
    try:
        return len(number) <= LONGEST_NUMBER and isfinite(float(number))
    except ValueError:
        return True  # not a number: the parser refuses it


def _too_complex(message: str) -> MalformedBody:
    return MalformedBody("body_too_complex", message, status=422)
