"""What a text consists of, against a plain count of what a parser makes of it."""

import itertools
import json
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import GatewayError, MalformedBody
from gateway.faces.outline import MAX_DEPTH, MAX_VALUES, WINDOW, Outline

TEXT = st.text(max_size=8) | st.text('\\"[]{},:\x00é😀u', max_size=12)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXT, inner, max_size=5),
    max_leaves=30,
)
CUTS = st.lists(st.integers(0, 400), max_size=8)


def cut(text: bytes, cuts: Iterable[int]) -> list[bytes]:
    places = [0, *sorted(min(place, len(text)) for place in cuts), len(text)]
    return [text[start:end] for start, end in itertools.pairwise(places)]


def outline(windows: Iterable[bytes], **bounds: int) -> Outline:
    found = Outline(**bounds)
    for window in windows:
        found.feed(window)
    found.end()
    return found


def counted(value: Any) -> int:
    """Values and names, an empty list or object as two."""
    match value:
        case dict():
            return 1 + (sum(1 + counted(item) for item in value.values()) or 1)
        case list():
            return 1 + (sum(counted(item) for item in value) or 1)
        case _:
            return 1


def depth(value: Any) -> int:
    match value:
        case dict():
            return 1 + max(map(depth, value.values()), default=0)
        case list():
            return 1 + max(map(depth, value), default=0)
        case _:
            return 0


@given(VALUES, st.booleans(), st.sampled_from([None, 2]), CUTS)
def test_values_are_counted_however_the_text_is_cut(
    value: Any, ascii_only: bool, indent: int | None, cuts: list[int]
) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode("utf-8", "surrogatepass")
    assert outline(cut(text, cuts)).values == counted(value)


@given(VALUES, CUTS)
def test_depth_is_bounded_exactly(value: Any, cuts: list[int]) -> None:
    text = json.dumps(value).encode()
    outline(cut(text, cuts), max_depth=depth(value))
    if depth(value):
        with pytest.raises(MalformedBody, match="deep"):
            outline(cut(text, cuts), max_depth=depth(value) - 1)


@given(st.binary(max_size=200) | TEXT.map(lambda text: text.encode("utf-8", "surrogatepass")), CUTS)
def test_any_bytes_are_counted_or_refused(text: bytes, cuts: list[int]) -> None:
    try:
        whole: int | str = outline([text]).values
    except GatewayError as error:
        whole = error.code
    try:
        parts: int | str = outline(cut(text, cuts)).values
    except GatewayError as error:
        parts = error.code
    assert parts == whole


@given(VALUES, st.binary(max_size=20), st.integers(0, 200))
def test_what_is_wrong_later_hides_nothing_before(value: Any, junk: bytes, at: int) -> None:
    """A parser builds the part before the fault: at least as much of it has been counted."""
    text = json.dumps([value]).encode()[:at]
    try:
        before = outline([text]).values
        assert outline([text, junk]).values >= before
    except MalformedBody:
        pass


@pytest.mark.parametrize("content", [b"a", b"\\\\", b'\\"', b"\\u0000", b"[{,:}]", "é".encode(), "😀".encode()])
def test_one_long_string_is_one_value(content: bytes) -> None:
    text = b'"' + content * (1_000_000 // len(content)) + b'"'
    windows = [text[start : start + WINDOW - 1] for start in range(0, len(text), WINDOW - 1)]
    assert outline(windows).values == 1


def test_the_bounds_are_named() -> None:
    with pytest.raises(MalformedBody, match=f"more than the {MAX_VALUES:,} JSON values"):
        outline([b"[" + b"1," * MAX_VALUES])
    with pytest.raises(MalformedBody, match=f"more than {MAX_DEPTH} deep"):
        outline([b"[" * (MAX_DEPTH + 1)])


@pytest.mark.parametrize(
    "number",
    ["1e999", "-1E+0400", "2" * 309, "1" + "0" * 299 + "e99", "1.5e00310", "9" * 200 + "." + "9" * 200 + "e200"],
)
@pytest.mark.parametrize("at", range(4))
def test_a_number_that_is_not_finite_is_never_overlooked(number: str, at: int) -> None:
    text = f'["a", {number}, "b"]'.encode()
    assert outline(cut(text, [7 + at, len(text) // 2 + at])).finite is False


def test_ordinary_numbers_and_texts_are_finite() -> None:
    numbers = [1e99, 1e100, 1.7e308, 1e-999, 0.1, -5, 2**63, True, False, None]
    texts = ["1e999", "9" * 400, {"e999": "1e000"}]
    text = json.dumps([*numbers, *texts, "@"]).replace('"@"', "2" * 400 + "e-200").encode()
    assert outline([text]).finite
    assert outline(cut(text, range(0, 2000, 3))).finite
