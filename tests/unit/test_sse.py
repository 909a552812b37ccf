"""Events from bytes cut anywhere."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from worker.sse import EventDecoder

STREAM = (
    b': hello\ndata: {"a": 1}\n\nevent: x\r\ndata:two\r\ndata: lines\r\n\r\nid: 3\n\ndata: \xe6\xbc\xa2\n\ndata: [DONE]'
)
PAYLOADS = [b'{"a": 1}', b"two\nlines", "漢".encode(), b"[DONE]"]


@given(st.lists(st.integers(0, len(STREAM)), max_size=20))
def test_where_the_bytes_are_cut_does_not_matter(cuts: list[int]) -> None:
    decoder = EventDecoder()
    edges = [0, *sorted(cuts), len(STREAM)]
    payloads = [payload for start, end in pairwise(edges) for payload in decoder.feed(STREAM[start:end])]
    assert payloads + decoder.end() == PAYLOADS


def test_an_event_without_its_blank_line_is_complete_at_the_end() -> None:
    decoder = EventDecoder()
    assert decoder.feed(b"data: a") == []
    assert decoder.end() == [b"a"]
    assert decoder.end() == []
