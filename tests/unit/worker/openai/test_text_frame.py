"""The short way for text: it takes what the long way would, or nothing."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.openai.completion import Reply
from worker.openai.pieces import TextPiece
from worker.openai.sse import EventDecoder
from worker.openai.text_frame import TextFrame

Json = dict[str, Any]
Shape = Callable[[str], Json]


def openai(text: str) -> Json:
    choice = {"index": 0, "delta": {"content": text}, "logprobs": None, "finish_reason": None}
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 17, "model": "gpt-4o"}
    return {**head, "service_tier": "default", "system_fingerprint": "fp_1", "choices": [choice], "usage": None}


def vllm(text: str) -> Json:
    delta = {"role": "assistant", "content": text, "refusal": None, "tool_calls": None, "reasoning_content": None}
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None, "stop_reason": None}
    return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 17, "model": "m", "choices": [choice]}


def llama_cpp(text: str) -> Json:
    choice = {"finish_reason": None, "index": 0, "delta": {"content": text}}
    return {"choices": [choice], "created": 17, "id": "chatcmpl-1", "model": "m", "object": "chat.completion.chunk"}


def refusing(text: str) -> Json:
    return {"id": "1", "choices": [{"index": 0, "delta": {"role": "assistant", "content": None, "refusal": text}}]}


def changing(text: str) -> Json:
    """As some gateways' chunks, that differ in more than their text."""
    return {"id": f"chatcmpl-{len(text)}", "choices": [{"index": 0, "delta": {"content": text}}], "p": "x" * len(text)}


SHAPES = [openai, vllm, llama_cpp, refusing, changing]
FRAMED = [openai, vllm, llama_cpp]
TEXTS = st.lists(st.text() | st.text(st.sampled_from('"\\/\n\r{}[]:,content é\u2028😀\ud83d\ude00')), max_size=5)


def compact(value: Json) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")


def spaced(value: Json) -> bytes:
    return json.dumps(value).encode()


def spaced_out(value: Json) -> bytes:
    return json.dumps(value, separators=(", ", " : ")).encode()


WRITERS = [compact, spaced, spaced_out]


def event(payload: bytes) -> bytes:
    return b"data: " + payload + b"\n\n"


def taken_the_long_way(received: bytes) -> list[str]:
    """The texts of all events, each of which must be nothing else; raises ``ValueError`` for what is no JSON."""
    decoder, reply = EventDecoder(), Reply()
    pieces = [piece for payload in decoder.feed(received) for piece in reply.take(payload)]
    assert decoder.empty
    assert all(type(piece) is TextPiece for piece in pieces)
    assert reply.finish_reason is None
    return pieces


def learned(shape: Shape, write: Callable[[Json], bytes], text: str = "a") -> TextFrame:
    frame = TextFrame()
    frame.learn(write(shape(text)), text)
    return frame


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("write", WRITERS)
@given(first=st.text(min_size=1), texts=TEXTS)
def test_texts_are_those_of_the_events_or_none_at_all(
    shape: Shape, write: Callable[[Json], bytes], first: str, texts: list[str]
) -> None:
    received = b"".join(event(write(shape(text))) for text in texts)
    found = learned(shape, write, first).texts(received)
    if found is not None:
        assert found == [json.loads(json.dumps(text)) for text in texts] == taken_the_long_way(received)


@pytest.mark.parametrize("shape", FRAMED)
@pytest.mark.parametrize("write", [compact, spaced])
@given(first=st.text(min_size=1), texts=st.lists(st.text(min_size=1), min_size=1))
def test_text_of_the_usual_servers_takes_the_short_way(
    shape: Shape, write: Callable[[Json], bytes], first: str, texts: list[str]
) -> None:
    received = b"".join(event(write(shape(text))) for text in texts)
    assert learned(shape, write, first).texts(received) == texts


@given(st.data())
def test_events_with_anything_else_in_them_do_not_pass(data: st.DataObject) -> None:
    shape, write = data.draw(st.sampled_from(FRAMED)), data.draw(st.sampled_from([compact, spaced]))
    other = shape("b")
    change = data.draw(st.sampled_from(CHANGES))
    change(other)
    frame = learned(shape, write)
    text, odd = event(write(shape("b"))), event(write(other))
    assert frame.texts(text) == ["b"]
    for received in (odd, odd + text, text + odd, text + odd + text):
        assert frame.texts(received) is None


def finished(chunk: Json) -> None:
    chunk["choices"][0]["finish_reason"] = "stop"


def counted(chunk: Json) -> None:
    chunk["usage"] = {"prompt_tokens": 1, "completion_tokens": 1}


def called(chunk: Json) -> None:
    chunk["choices"][0]["delta"]["tool_calls"] = [{"index": 0, "function": {"name": "f", "arguments": ""}}]


def twofold(chunk: Json) -> None:
    chunk["choices"].append({"index": 1, "delta": {"content": "c"}, "finish_reason": None})


def renamed(chunk: Json) -> None:
    chunk["id"] = "chatcmpl-2"


def emptied(chunk: Json) -> None:
    chunk["choices"][0]["delta"]["content"] = ""


def silenced(chunk: Json) -> None:
    chunk["choices"][0]["delta"]["content"] = None


def listed(chunk: Json) -> None:
    chunk["choices"][0]["delta"]["content"] = ["b"]


def thought(chunk: Json) -> None:
    chunk["choices"][0]["delta"]["reasoning_content"] = "hm"


def refused(chunk: Json) -> None:
    chunk["choices"][0]["delta"]["refusal"] = "no"


def likely(chunk: Json) -> None:
    chunk["choices"][0]["logprobs"] = {"content": [{"token": "b", "logprob": -1.0}]}


def failed(chunk: Json) -> None:
    chunk["error"] = {"message": "overloaded"}


CHANGES: list[Callable[[Json], None]] = [
    finished,
    counted,
    called,
    twofold,
    renamed,
    emptied,
    silenced,
    listed,
    thought,
    refused,
    likely,
    failed,
]

WHOLE = event(spaced(llama_cpp("b")))


@pytest.mark.parametrize(
    "received",
    [
        b"",
        b"\n\n",
        b"data: [DONE]\n\n",
        WHOLE + b"data: [DONE]\n\n",
        WHOLE[:-1],
        WHOLE[:-2],
        WHOLE + WHOLE[:-1],
        WHOLE + WHOLE[:20],
        WHOLE[20:],
        WHOLE.replace(b"\n", b"\r\n"),
        WHOLE[:-2] + b"\r\n\r\n",
        b": ping\n\n",
        WHOLE + b": ping\n\n",
        b": ping\n" + WHOLE,
        b"event: x\n" + WHOLE,
        WHOLE[:-1] + b"id: 1\n\n",
        WHOLE + b"\n" + WHOLE,
        WHOLE.replace(b"data: ", b"data:"),
        WHOLE.replace(b'"b"', b'"b'),
        WHOLE.replace(b'"b"', b"b"),
        WHOLE.replace(b'"b"', b"1"),
        WHOLE.replace(b'"b"', b""),
        WHOLE.replace(b'"b"', b'"b", "x": "c"'),
        WHOLE.replace(b'"b"', b'"\x00"'),
        WHOLE.replace(b'"b"', b'"\xff"'),
        WHOLE.replace(b'"b"', b'"\\ud83d"'),
        WHOLE.replace(b'"b"', b'\n"b"'),
    ],
    ids=repr,
)
def test_what_is_not_whole_events_of_text_does_not_pass(received: bytes) -> None:
    frame = learned(llama_cpp, spaced)
    assert frame.texts(WHOLE + WHOLE) == ["b", "b"]
    assert frame.texts(received) is None


@given(at=st.integers(1, 2 * len(WHOLE) - 1))
def test_events_cut_anywhere_else_than_between_two_do_not_pass(at: int) -> None:
    frame = learned(llama_cpp, spaced)
    found = [frame.texts(part) for part in ((WHOLE + WHOLE)[:at], (WHOLE + WHOLE)[at:])]
    assert found == ([["b"], ["b"]] if at == len(WHOLE) else found)
    assert at == len(WHOLE) or None in found


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        (b'{"content": "a", "choices": [{"delta": {"content": "a"}}]}', "a"),
        (b'{"choices": [{"delta": {"content": "", "refusal": "a"}}]}', "a"),
        (b'{"choices": [{"delta": {"content" : "a"}}]}', "a"),
        (b'{"choices": [{"delta": {"content": "\\ud83d"}}]}', "\ud83d"),
        (b'{"choices": [{"delta": {"refusal": "\\"content\\": \\"a\\""}}]}', '"content": "a"'),
    ],
)
def test_what_is_not_surely_text_alone_is_not_learned(payload: bytes, text: str) -> None:
    frame = TextFrame()
    frame.learn(payload, text)
    assert frame.texts(event(payload)) is None


def test_an_unlike_event_replaces_what_was_learned_and_an_unclear_one_removes_it() -> None:
    frame = learned(llama_cpp, spaced)
    frame.learn(compact(openai("a")), "a")
    assert frame.texts(WHOLE) is None
    assert frame.texts(event(compact(openai("b")))) == ["b"]
    frame.learn(spaced(refusing("a")), "a")
    assert frame.texts(event(compact(openai("b")))) is None
