"""The benchmark's check of replies: it must fail on whatever is lost, repeated, reordered or strayed."""

import pytest

from bench.order import TOKEN, Order, Token
from bench.recording import Recording, check, read

ORDER = Order("a", 5)


def tokens(*places: int, owner: str = "a") -> list[Token]:
    return [Token(owner, place, 1000 * place) for place in places]


def event(data: bytes) -> bytes:
    return b"data: " + data + b"\n\n"


def content(*places: int) -> bytes:
    text = b"".join(TOKEN % (b"a", place, 1000 * place) for place in places)
    return event(b'{"choices":[{"delta":{"content":"%b"},"finish_reason":null}]}' % text)


END = event(b'{"choices":[{"delta":{},"finish_reason":"stop"}]}') + event(b"[DONE]")


def recorded(body: bytes, size: int = 1 << 20, status: bytes = b"200 OK", ends: bool = True) -> Recording:
    """A chunked answer with this body, read ``size`` bytes at a time, one read a second from 10 s on."""
    chunks = b"%x\r\n%b\r\n" % (len(body), body) + (b"0\r\n\r\n" if ends else b"")
    raw = b"HTTP/1.1 " + status + b"\r\ntransfer-encoding: chunked\r\n\r\n" + chunks
    reads = [raw[start : start + size] for start in range(0, len(raw), size)]
    segments = [(10.0 + number, data) for number, data in enumerate(reads)]
    return Recording(ORDER, 9.0, segments, complete=ends)


def test_an_order_is_found_at_the_end_of_a_request() -> None:
    order = Order("r1x2x3", 200, 2.5, 1000.0)
    assert Order.find(b'{"messages":[{"content":"bench order"},{"content":"%b"}]}' % order.text().encode()) == order


def test_a_request_without_an_order_has_none() -> None:
    assert Order.find(b'{"messages":[{"content":"hello"}]}') is None


def test_a_whole_reply_is_exact() -> None:
    assert check(tokens(0, 1, 2, 3, 4), ORDER, whole=True) == []


def test_the_beginning_of_a_reply_is_exact_when_the_client_left() -> None:
    assert check(tokens(0, 1), ORDER, whole=False) == []


@pytest.mark.parametrize(
    ("found", "fault"),
    [
        (tokens(0, 1, 3, 4), "lost: 2 to 2"),
        (tokens(0, 1, 2, 3), "lost: 4 to 4"),
        (tokens(1, 2, 3, 4), "lost: 0 to 0"),
        (tokens(), "lost: 0 to 4"),
        (tokens(0, 1, 1, 2, 3, 4), "repeated"),
        (tokens(0, 2, 1, 3, 4), "repeated or late"),
        (tokens(0, 1, 2, 3, 4, 5), "too many"),
        ([*tokens(0, 1), *tokens(2, owner="b"), *tokens(2, 3, 4)], "strayed"),
    ],
)
def test_a_reply_that_is_not_exact_is_faulted(found: list[Token], fault: str) -> None:
    assert any(fault in said for said in check(found, ORDER, whole=True))


def test_a_loss_is_seen_although_the_client_left() -> None:
    assert check(tokens(0, 2), ORDER, whole=False)


def test_a_stream_is_read_as_it_came() -> None:
    reply = read(recorded(content(0) + content(1, 2) + b": ping\n\n" + content(3, 4) + END))
    assert (reply.faults, [arrival.token.place for arrival in reply.arrivals]) == ([], [0, 1, 2, 3, 4])


@pytest.mark.parametrize("size", [1, 7, 100])
def test_a_stream_is_read_the_same_however_it_is_cut(size: int) -> None:
    reply = read(recorded(content(0) + content(1, 2) + content(3, 4) + END, size))
    assert (reply.faults, len(reply.arrivals)) == ([], 5)


def test_a_token_arrives_with_its_last_byte() -> None:
    whole = recorded(content(0, 1, 2, 3, 4) + END, size=1)
    reply = read(whole)
    raw = b"".join(data for _, data in whole.segments)
    assert reply.arrivals[0].at == 10.0 + raw.index(b"\n\n", raw.index(b"a.0.")) + 1
    assert reply.arrivals[0].at - reply.asked == reply.first_token


def test_a_token_split_between_two_events_is_one() -> None:
    half = b'{"choices":[{"delta":{"content":"%b"}}]}'
    reply = read(recorded(event(half % b"a.0.0 a.1") + event(half % b".1000 ") + content(2, 3, 4) + END))
    assert (reply.faults, reply.arrivals[1].token) == ([], Token("a", 1, 1000))


@pytest.mark.parametrize(
    ("recording", "fault"),
    [
        (recorded(content(0, 1, 2, 3, 4)), "ended early"),
        (recorded(content(0, 1, 2, 3, 4) + event(b"[DONE]")), "ended early"),
        (recorded(content(0, 1, 2, 3, 4) + END, ends=False), "ended early"),
        (recorded(content(0, 1) + event(b'{"error":{"code":"worker_lost"}}')), "worker_lost"),
        (recorded(b'{"error":"full"}', status=b"503 Service Unavailable"), "status 503"),
        (recorded(event(b'{"choices":[{"delta":{"content":"a.0 a.1.1 "}}]}') + END), "garbled"),
        (Recording(ORDER, 9.0), "status 0"),
    ],
)
def test_an_answer_that_fails_is_faulted(recording: Recording, fault: str) -> None:
    assert any(fault in said for said in read(recording).faults)


def test_an_answer_that_the_client_left_is_not() -> None:
    recording = recorded(content(0, 1), ends=False)
    recording.cut = 12.0
    assert read(recording).faults == []
