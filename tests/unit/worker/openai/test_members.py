"""One member of a JSON object is replaced while the object is passed on, wherever it is cut."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.growth import TIMES, assert_linear
from worker.openai.members import KEPT, MEMBERS, Members, NoObject
from worker.wire.connection import READ

NAMES = st.sampled_from(["model", "usage", "mode", '"model"', "\\", '\\"', "é", "", "data", "}", "model\\"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text('\\":,{}[]aé\u2028'),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)


def members() -> Members:
    return Members({b"model": b'"public"'}, frozenset({b"usage"}))


def passed(text: bytes, size: int, reader: Members) -> bytes:
    return b"".join(reader.feed(text[at : at + size]) for at in range(0, len(text), size))


@given(
    object_=st.dictionaries(NAMES, VALUES, max_size=6),
    size=st.integers(1, 9),
    indent=st.sampled_from([None, 1]),
    ascii_=st.booleans(),
)
def test_only_the_members_named_change(object_: dict[str, Any], size: int, indent: int | None, ascii_: bool) -> None:
    text = json.dumps(object_, indent=indent, ensure_ascii=ascii_)
    reader = members()
    made = passed(text.encode(), size, reader)
    assert reader.is_complete
    assert json.loads(made) == {name: "public" if name == "model" else value for name, value in object_.items()}
    assert reader.kept.keys() == {name.encode() for name in object_.keys() & {"usage"}}
    assert all(json.loads(value) == object_[name.decode()] for name, value in reader.kept.items())


def test_everything_else_stays_byte_for_byte() -> None:
    text = b'{ "a" : [1.50, {"model":"x"}] ,\r\n"model":{"b":"}"},"a":1e400, "z":"\xff" }'
    expected = b'{ "a" : [1.50, {"model":"x"}] ,\r\n"model":"public","a":1e400, "z":"\xff" }'
    for size in range(1, len(text) + 1):
        assert passed(text, size, members()) == expected


def test_blanks_around_the_object_are_left_out_and_so_is_a_bom() -> None:
    reader = members()
    assert reader.feed(b"\xef\xbb\xbf \n{} \n") == b"{}"
    assert reader.is_complete
    assert reader.feed(b"\r\n") == b""


@pytest.mark.parametrize("text", [b"[]", b"<html>", b'"{}"', b"null", b"{}{}", b"{} x"])
def test_what_is_not_one_object_is_refused(text: bytes) -> None:
    with pytest.raises(NoObject):
        members().feed(text)


@pytest.mark.parametrize("text", [b"", b"{", b'{"a":[1', b'{"a":"}', b'{"a":1,', b'{"a\\"}'])
def test_what_ends_early_is_not_complete(text: bytes) -> None:
    reader = members()
    reader.feed(text)
    assert not reader.is_complete


def test_a_long_member_is_passed_on_and_not_kept() -> None:
    reader = members()
    text = b'{"usage":"' + b"a" * KEPT + b'"}'
    assert passed(text, 1000, reader) == text
    assert reader.kept == {}


def test_an_object_of_many_members_is_refused() -> None:
    text = b'{"a":1' + b',"a":1' * MEMBERS
    with pytest.raises(NoObject, match="1,000 members"):
        members().feed(text + b"}")


@pytest.mark.parametrize("unit", [b"[", b"[],", b'"",', b'{"a":1},', b'\\"', b"\\\\", b"1.5,"])
@pytest.mark.parametrize("piece", [16, TIMES * READ])
def test_no_object_takes_long(unit: bytes, piece: int) -> None:
    def read(size: int) -> Callable[[], bytes]:
        text = b'{"a":' + (b'"' if unit.startswith(b"\\") else b"[") + (unit * size)[:size]
        return lambda: passed(text, piece, members())

    assert_linear(read, READ)
