"""Events from bytes cut anywhere."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.wire.answers import EVENT_LIMIT
from worker.wire.sse import LINE_LIMIT, EventDecoder, EventTooLong

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


EVENTS = st.sampled_from(
    [
        b'data: {"a":1}',
        b'data:{"b":2}',
        b"data: [DONE]",
        b": ping",
        b"event: x",
        b'data: {"c"\ndata: :3}',
        b"data: {}\r",
    ]
)


@given(st.lists(EVENTS, max_size=6), st.sampled_from([b"\n\n", b"\n", b"\r\n\r\n", b"\n\n\n"]))
def test_events_that_come_together_are_the_same_as_byte_by_byte(events: list[bytes], between: bytes) -> None:
    stream = b"".join(event + between for event in events)
    alone = EventDecoder()
    payloads = [payload for number in range(len(stream)) for payload in alone.feed(stream[number : number + 1])]
    together = EventDecoder()
    found = together.feed(stream)
    assert [payload.strip() for payload in found] == [payload.strip() for payload in payloads]
    assert together.end() == alone.end()


def test_an_event_without_its_blank_line_is_complete_at_the_end() -> None:
    decoder = EventDecoder()
    assert decoder.feed(b"data: a") == []
    assert decoder.end() == [b"a"]
    assert decoder.end() == []


@pytest.mark.parametrize("piece", [b"a" * 1000, b"\n" * 1000, b": ping\n\n" * 100, b":\n" * 500, b"event: x\r\n" * 100])
def test_what_never_becomes_an_event_is_an_error(monkeypatch: pytest.MonkeyPatch, piece: bytes) -> None:
    monkeypatch.setattr("worker.wire.sse.EVENT_LIMIT", 100_000)
    decoder = EventDecoder()
    for _ in range(100_000 // len(piece)):
        assert decoder.feed(piece) == []
    with pytest.raises(EventTooLong, match="no event is complete after 100,000 bytes"):
        decoder.feed(piece)


def test_an_event_has_a_bounded_number_of_lines() -> None:
    decoder = EventDecoder()
    assert decoder.feed(b"data: a\n" * LINE_LIMIT + b"\n") == [b"a\n" * (LINE_LIMIT - 1) + b"a"]
    with pytest.raises(EventTooLong, match="lines"):
        decoder.feed(b"data: a\n" * (LINE_LIMIT + 1))


def test_events_without_end_are_no_long_event() -> None:
    decoder = EventDecoder()
    piece = b": ping\n\ndata: " + b"a" * 1000 + b"\n\n"
    for _ in range(2 * EVENT_LIMIT // len(piece)):
        assert decoder.feed(piece) == [b"a" * 1000]


def test_a_long_line_in_small_pieces_takes_linear_time() -> None:
    """Counted in bytes that are copied, which no slow machine changes."""
    decoder = EventDecoder()
    decoder.feed(b"data: ")
    pieces = EVENT_LIMIT // 1024 - 1
    for _ in range(pieces):
        decoder.feed(b"a" * 1024)
    assert len(decoder._rest) == pieces + 1  # none was joined yet
    assert decoder.feed(b"\n\n") == [b"a" * 1024 * pieces]
