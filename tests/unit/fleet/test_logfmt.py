"""What is written as logfmt reads back, by the grammar that its parsers share (kr/logfmt's):

ident_byte = any byte greater than ' ', excluding '=' and '"'
string_byte = any byte excluding '"' and '\\'
garbage = !ident_byte
ident = ident_byte, { ident_byte }
key = ident
value = ident | '"', { string_byte | '\\', any }, '"'
pair = key, '=', value | key, '=' | key
message = { garbage, pair }, garbage

A quoted value has the escapes of a JSON string, as in Go's ``go-logfmt``.
"""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet import logfmt

IDENT = rb'[^\x00-\x20="]+'
PAIR = re.compile(rb"[\x00-\x20]*(" + IDENT + rb")(?:=(?:(" + IDENT + rb')|("(?:[^"\\]|\\.)*")|))?', re.DOTALL)


def parse(line: str) -> dict[str, str | None]:
    data = line.encode()
    found: dict[str, str | None] = {}
    at = 0
    while at < len(data):
        pair = PAIR.match(data, at)
        assert pair is not None, f"no pair at {at} of {line!r}"
        at = pair.end()
        assert data[at : at + 1] in (b"", b" ")
        key, bare, quoted = pair.groups()
        assert key.decode() not in found
        value = bare.decode() if bare is not None else None
        found[key.decode()] = json.loads(quoted) if quoted is not None else value
    return found


def written(**event: Any) -> str:
    return logfmt.line(None, "", event)


texts = st.text(st.characters(codec="utf-8"))
values = st.recursive(
    st.one_of(texts, st.booleans(), st.none(), st.integers(), st.floats(allow_nan=False, allow_infinity=False)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=6,
)
names = st.from_regex("[a-z_]{1,8}", fullmatch=True)


@given(st.dictionaries(names, values, max_size=5))
def test_what_is_written_parses_back(event: dict[str, Any]) -> None:
    line = written(**event)
    assert "\n" not in line
    parsed = parse(line)
    assert parsed.keys() == event.keys()
    for name, value in event.items():
        text = parsed[name]
        assert text is not None
        assert text == value if isinstance(value, str) else json.loads(text) == value


@given(texts)
def test_a_name_that_is_none_is_made_one(name: str) -> None:
    parsed = parse(written(**{"event": "a", f"x{name}": "b"}))
    assert list(parsed.values()) == ["a", "b"]


def test_nothing_reaches_a_terminal_that_it_would_obey() -> None:
    assert written(reason="\x1b[2J\x9b\x7f\u202e") == r'reason="\u001b[2J\u009b\u007f\u202e"'
    assert written(reason="\ud800") == r'reason="\ud800"'


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (True, "true"),
        (False, "false"),
        (None, "null"),
        (3, "3"),
        (1.5, "1.5"),
        ("", '""'),
        ("a.b:1/x", "a.b:1/x"),
        ("größer", "größer"),
        ("a b", '"a b"'),
        (r"C:\a", r"C:\a"),
        ('say "no"', r'"say \"no\""'),
        (["smollm2"], r'"[\"smollm2\"]"'),
        (("a", Path("b c")), r'"[\"a\",\"b c\"]"'),
        ({"b", "a"}, r'"[\"a\",\"b\"]"'),
        ([], "[]"),
        ([1, 2], "[1,2]"),
        ({}, "{}"),
        (Path("/a b"), '"/a b"'),
    ],
)
def test_values_as_people_and_parsers_read_them(value: Any, shown: str) -> None:
    assert written(value=value) == f"value={shown}"
    assert list(parse(f"value={shown}")) == ["value"]


def test_the_time_comes_first() -> None:
    line = written(reason="x", event="e", process="p", level="info", time="t")
    assert line == "time=t level=info process=p event=e reason=x"
