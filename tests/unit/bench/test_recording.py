"""The benchmark's check of replies finds tokens that are lost, repeated, reordered or misdelivered."""

import orjson
import pytest

from bench.order import TOKEN, Kind, Order, Token
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


def reasoning(*places: int) -> bytes:
    return content(*places).replace(b"content", b"reasoning_content")


def arguments(text: str, name: str | None = None, id_: str = "call_a") -> bytes:
    """One part of a tool call; with its name if it is the first."""
    head = {"id": id_, "type": "function"} if name else {}
    part = {"index": 0, **head, "function": {"arguments": text, **({"name": name} if name else {})}}
    return event(orjson.dumps({"choices": [{"delta": {"tool_calls": [part]}, "finish_reason": None}]}))


def recorded(
    body: bytes, size: int = 1 << 20, status: bytes = b"200 OK", ends: bool = True, kind: Kind = "text"
) -> Recording:
    """A chunked answer with this body, read ``size`` bytes at a time, one read a second from 10 s on."""
    chunks = b"%x\r\n%b\r\n" % (len(body), body) + (b"0\r\n\r\n" if ends else b"")
    raw = b"HTTP/1.1 " + status + b"\r\ntransfer-encoding: chunked\r\n\r\n" + chunks
    reads = [raw[start : start + size] for start in range(0, len(raw), size)]
    segments = [(10.0 + number, data) for number, data in enumerate(reads)]
    return Recording(Order("a", 5, kind=kind), 9.0, segments, complete=ends)


def test_an_order_is_found_at_the_end_of_a_request() -> None:
    order = Order("r1x2x3", 200, 2.5, 1000.0, "tools", "constant")
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
        ([*tokens(0, 1), *tokens(2, owner="b"), *tokens(2, 3, 4)], "misdelivered"),
    ],
)
def test_a_reply_that_is_not_exact_is_faulted(found: list[Token], fault: str) -> None:
    assert any(fault in words for words in check(found, ORDER, whole=True))


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
    assert any(fault in words for words in read(recording).faults)


def test_an_answer_that_the_client_left_is_not() -> None:
    recording = recorded(content(0, 1), ends=False)
    recording.cut = 12.0
    assert read(recording).faults == []


PARTS = [(TOKEN % (b"a", place, 1000 * place)).decode() for place in range(5)]
CALL = arguments("", "note") + b"".join(arguments(part) for part in ['{"text":" ', *PARTS, '"}'])
CALLED = event(b'{"choices":[{"delta":{},"finish_reason":"tool_calls"}]}') + event(b"[DONE]")


def test_reasoning_is_read_where_it_was_asked_for() -> None:
    reply = read(recorded(reasoning(0, 1, 2) + reasoning(3, 4) + END, kind="reasoning"))
    assert (reply.faults, len(reply.arrivals)) == ([], 5)


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
def test_tokens_are_read_out_of_a_tool_calls_arguments(size: int) -> None:
    reply = read(recorded(CALL + CALLED, size, kind="tools"))
    assert (reply.faults, [arrival.token.place for arrival in reply.arrivals]) == ([], [0, 1, 2, 3, 4])


def test_arguments_may_come_in_other_parts_than_they_were_sent() -> None:
    whole = '{"text":" ' + "".join(PARTS) + '"}'
    reply = read(recorded(arguments(whole[:4], "note") + arguments(whole[4:]) + CALLED, kind="tools"))
    assert (reply.faults, len(reply.arrivals)) == ([], 5)


def test_a_tool_call_that_the_client_left_is_exact_so_far() -> None:
    recording = recorded(arguments("", "note") + arguments('{"text":" ' + PARTS[0]), ends=False, kind="tools")
    recording.cut = 12.0
    assert read(recording).faults == []


@pytest.mark.parametrize(
    ("body", "kind", "fault"),
    [
        (reasoning(0) + content(0, 1, 2, 3, 4) + END, "text", "reasoning in a reply of text"),
        (content(0, 1, 2, 3, 4) + END, "reasoning", "text in a reply of reasoning"),
        (reasoning(0, 1, 2, 3) + END, "reasoning", "lost: 4 to 4"),
        (CALL + END, "tools", "finished by stop"),
        (content(0, 1, 2, 3, 4) + CALLED, "text", "finished by tool_calls"),
        (CALL.replace(b'"name":"note"', b'"name":""') + CALLED, "tools", "tool calls []"),
        (CALL.replace(b"call_a", b"call_b") + CALLED, "tools", "tool calls [('call_b', 'note')]"),
        (arguments("", "note") + CALL + CALLED, "tools", "instead of [('call_a', 'note')]"),
        (CALL.replace(b'"index":0', b'"index":1') + CALLED, "tools", "tool call 1"),
        (CALL.replace(arguments(PARTS[2]), b"") + CALLED, "tools", "lost: 2 to 2"),
        (CALL.replace(arguments('"}'), b"") + CALLED, "tools", "garbled"),
        (CALL.replace(arguments('{"text":" '), b"") + CALLED, "tools", "garbled"),
    ],
)
def test_a_reply_of_another_kind_or_a_broken_call_is_faulted(body: bytes, kind: Kind, fault: str) -> None:
    faults = read(recorded(body, kind=kind)).faults
    assert any(fault in words for words in faults), faults
