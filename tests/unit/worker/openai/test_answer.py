"""Answers of other endpoints, as they are written into a sink."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos import chat_pb2 as pb
from tests.unit.worker.recording import Recording
from worker.contract.errors import ModelReported, StreamBroken
from worker.openai.answer import HELD, KIND, MARKS, SLICE, Events, Whole
from worker.openai.completion import SILENCE

USAGE = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}


def texts(sink: Recording) -> list[str]:
    assert {kind for kind, _ in sink.events} <= {"custom"}
    parts: list[Any] = [value for _, value in sink.events]
    assert {part.kind for part in parts} <= {KIND}
    return [part.json for part in parts]


def feed(reader: Whole | Events, text: bytes, size: int = 1 << 20) -> None:
    for at in range(0, len(text), size):
        reader.data_received(text[at : at + size])
    reader.eof_received()


async def whole(text: bytes, size: int = 1 << 20, *, as_event: bool = False) -> tuple[str, pb.Done]:
    sink = Recording()
    reader = Whole(sink, "public", as_event)
    feed(reader, text, size)
    done = await reader.end()
    assert reader.is_whole
    return "".join(texts(sink)), done


async def events(text: bytes, size: int = 1 << 20) -> tuple[str, pb.Done]:
    sink = Recording()
    reader = Events(sink, "public")
    feed(reader, text, size)
    done = await reader.end()
    return "".join(texts(sink)), done


def event(text: str = "a", finish_reason: str | None = None, **fields: Any) -> bytes:
    body = {"model": "real", "choices": [{"text": text, "finish_reason": finish_reason}], **fields}
    return b"data: " + json.dumps(body).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"


# ---------------------------------------------------------------- one object


@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_an_answer_is_written_as_it_came_but_for_the_models_name(size: int) -> None:
    text, done = await whole(b'{"data":["\xc3\xa9"],"model":"real","usage":{"prompt_tokens":3}}\n', size)
    assert text == '{"data":["é"],"model":"public","usage":{"prompt_tokens":3}}'
    assert done == pb.Done(finish_reason="stop", usage=pb.Usage(prompt_tokens=3))


@pytest.mark.parametrize(
    ("usage", "counted"),
    [
        (USAGE, (7, 2)),
        ({"total_tokens": 9}, (9, 0)),
        ({"prompt_tokens": 7.0, "total_tokens": 7}, (7, 0)),
        ({"prompt_tokens": "7"}, (0, 0)),
        ({"prompt_tokens": -5}, (0, 0)),
        ({"prompt_tokens": 1e300}, (2**53, 0)),
        ([], (0, 0)),
        (None, (0, 0)),
    ],
)
async def test_the_usage_is_read(usage: Any, counted: tuple[int, int]) -> None:
    _, done = await whole(json.dumps({"usage": usage}).encode())
    assert (done.usage.prompt_tokens, done.usage.completion_tokens) == counted


async def test_a_small_answer_is_held_until_it_is_complete_and_a_large_one_is_not() -> None:
    sink = Recording()
    reader = Whole(sink, "public", False)
    reader.data_received(b'{"data":"' + b"a" * (HELD - 100))
    assert sink.events == []
    reader.data_received(b"a" * 200)
    assert sum(map(len, texts(sink))) == HELD + 109
    assert max(map(len, texts(sink))) == SLICE
    reader.data_received(b"bcd")
    assert texts(sink)[-1] == "bcd"


@pytest.mark.parametrize(
    "text", [b"", b"<html>no</html>", b'{"data":[', b'{"a":1}{"b":2}', b"[1]", b"data: {}\n\n", b'{"a":"' + b"a" * 100]
)
async def test_what_is_no_whole_object_is_an_error_and_nothing_is_written(text: bytes) -> None:
    sink = Recording()
    reader = Whole(sink, "public", False)
    feed(reader, text)
    with pytest.raises(StreamBroken):
        await reader.end()
    assert sink.events == []
    assert not reader.is_whole


async def test_an_error_with_a_good_status_is_an_error() -> None:
    sink = Recording()
    reader = Whole(sink, "public", False)
    feed(reader, b'{"error":{"message":"no"},"data":[]}')
    with pytest.raises(ModelReported) as reported:
        await reader.end()
    assert reported.value.body == {"message": "no"}
    assert sink.events == []
    assert (await whole(b'{"error":null}'))[0] == '{"error":null}'


@pytest.mark.parametrize("text", [b'{"object":"error","message":"no","code":400}', b'{"code": 400,"object": "error"}'])
async def test_an_error_object_is_an_error(text: bytes) -> None:
    whole_one, events = Recording(), Recording()
    for reader in (Whole(whole_one, "public", False), Events(events, "public")):
        feed(reader, text if isinstance(reader, Whole) else b"data: " + text + b"\n\n")
        with pytest.raises(ModelReported) as reported:
            await reader.end()
        assert isinstance(reported.value.body, dict)
        assert reported.value.body["code"] == 400
    assert whole_one.events == events.events == []


async def test_how_a_wrong_answer_begins_is_told() -> None:
    reader = Whole(Recording(), "public", False)
    feed(reader, b"<html>Sign in</html>")
    with pytest.raises(StreamBroken, match="begins with '<html>Sign in</html>'"):
        await reader.end()


@pytest.mark.parametrize("filler", [b" " * 30_000, b"data:\n\n" * 4000])
async def test_an_answer_that_says_nothing_ends(filler: bytes) -> None:
    for reader in (Whole(Recording(), "public", False), Events(Recording(), "public")):
        begin = b'{"model":"' if isinstance(reader, Whole) else b": x\n\n"
        reader.data_received(begin)
        for _ in range(SILENCE // len(filler) + 1):
            reader.data_received(filler)
        assert reader.is_over
        with pytest.raises(StreamBroken):
            await reader.end()


async def test_a_broken_connection_is_what_it_is() -> None:
    reader = Whole(Recording(), "public", False)
    reader.data_received(b"{")
    reader.failed(TimeoutError())
    with pytest.raises(TimeoutError):
        await reader.end()


async def test_what_is_no_utf8_is_replaced() -> None:
    text, _ = await whole(b'{"a":"\xff\xe2\x82"}', 1)
    assert json.loads(text)["a"] == "\ufffd\ufffd"


async def test_an_object_in_place_of_a_stream_is_one_event() -> None:
    text, _ = await whole(b'{\r\n "model": "real",\n "a": 1\n}', as_event=True)
    assert text == 'data: {   "model":"public",  "a": 1 }\n\n'


# ---------------------------------------------------------------- events


@given(st.integers(1, 200))
async def test_events_are_written_as_they_came_but_for_the_models_name(size: int) -> None:
    stream = event("é\u2028") + b": comment\n\n" + event("b", "stop") + event(choices=[], usage=USAGE) + DONE
    text, done = await events(stream, size)
    assert text.count('"model":"public"') == 3
    assert "real" not in text
    payloads = [json.loads(line[6:]) for line in text.split("\n") if line]
    assert [payload["choices"] for payload in payloads] == [
        [{"text": "é\u2028", "finish_reason": None}],
        [{"text": "b", "finish_reason": "stop"}],
        [],
    ]
    assert done.usage == pb.Usage(prompt_tokens=7, completion_tokens=2)


@pytest.mark.parametrize("done", [b"data:[DONE]\n\n", b"data: [DONE] \r\n\r\n", b"data: [DONE]"])
async def test_done_may_be_written_in_other_ways(done: bytes) -> None:
    assert (await events(event() + done))[0].count("data: ") == 1


async def test_a_stream_that_finished_and_ends_is_whole() -> None:
    assert (await events(event() + event("", "length")))[0].count("data: ") == 2
    assert (await events((event() + event("", "length")).rstrip()))[0].count("data: ") == 2


async def test_empty_events_are_left_out_and_lines_are_joined() -> None:
    text, _ = await events(b'data:\n\ndata: {"a":\ndata: 1}\n\n' + DONE)
    assert text == 'data: {"a": 1}\n\n'


@pytest.mark.parametrize(
    "rest",
    [
        b"",
        event('"finish_reason":"stop"'),
        b"data: [1]\n\n",
        b"data: {\n\n",
        b"data: oops\n\n",
        b'data: {"error":{"message":"no"}}\n\n',
        b'event: error\ndata: {"error":{"message":"no"}}\n\n',
        b'data: {"a":[' + b"[]," * MARKS + b"]}\n\n",
    ],
)
async def test_what_came_before_a_bad_end_is_written(rest: bytes) -> None:
    sink = Recording()
    reader = Events(sink, "public")
    feed(reader, event("first") + rest)
    with pytest.raises((StreamBroken, ModelReported)):
        await reader.end()
    assert "first" in texts(sink)[0]
    assert "oops" not in "".join(texts(sink))


async def test_a_long_event_is_written_in_parts() -> None:
    sink = Recording()
    reader = Events(sink, "public")
    feed(reader, event("é" * 100_000) + DONE)
    assert max(len(part.encode()) for part in texts(sink)) <= SLICE + 3
    assert "".join(texts(sink)).endswith("\n\n")


async def test_the_first_event_is_told_once() -> None:
    told: list[None] = []
    reader = Events(Recording(), "public", lambda: told.append(None))
    reader.data_received(b": hello\n\n")
    assert not told
    reader.data_received(event())
    reader.data_received(event())
    assert len(told) == 1
