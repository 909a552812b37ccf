"""Streams of providers that keep OpenAI's format loosely, and what is understood of them."""

import json
from typing import Any

import pytest

from protos import chat_pb2 as pb
from tests.unit.worker.recording import Recording
from worker.contract.errors import ModelReported, StreamBroken
from worker.openai.completion import Completion

DONE = b"data: [DONE]\n\n"


def event(value: object) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def choice(**fields: object) -> bytes:
    return event({"choices": [fields]})


def delta(finish_reason: str | None = None, **fields: object) -> bytes:
    return choice(index=0, delta=fields, finish_reason=finish_reason)


def call(**part: object) -> bytes:
    return delta(tool_calls=[part])


def function(name: str | None = None, arguments: object = None) -> dict[str, Any]:
    return {"function": {"name": name, "arguments": arguments}}


STOP = delta("stop")
HELLO = delta(content="Hello") + STOP


NO_CALLS: list[Any] = [{}, [None], [{}], [{"index": 0, "id": "", "function": {"name": "", "arguments": ""}}]]


async def read(*parts: bytes) -> tuple[Recording, pb.Done]:
    recording = Recording()
    completion = Completion(recording)
    for part in parts:
        completion.data_received(part)
    completion.eof_received()
    return recording, await completion.end()


async def calls(*parts: bytes) -> list[tuple[str, str, str]]:
    """Ids, names and arguments, as a client joins them."""
    recording, done = await read(*parts, STOP, DONE)
    assert done.finish_reason == "function_calls"
    found: dict[int, list[str]] = {}
    for _, part in recording.events:
        assert isinstance(part, pb.ToolCall)
        joined = found.setdefault(part.index, ["", "", ""])
        for place, text in enumerate((part.id, part.name, part.arguments)):
            joined[place] += text
    return [(id_, name, arguments) for _, (id_, name, arguments) in sorted(found.items())]


def fields(recording: Recording) -> list[Any]:
    return [json.loads(value.json) for kind, value in recording.events if kind == "fields"]  # type: ignore[attr-defined]


# ------------------------------------------------------------ the stream


@pytest.mark.parametrize(
    "stream",
    [
        b"\xef\xbb\xbf" + HELLO + DONE,
        b"\n\n \n" + HELLO + DONE,
        (HELLO + DONE).replace(b"\n", b"\r"),
        (HELLO + DONE).replace(b"\n", b"\r\n"),
        b": OPENROUTER PROCESSING\n\n" + HELLO + DONE,
        b"data:\n\ndata: \n\n" + HELLO + b"data: \n\n" + DONE,
        b"data: null\n\ndata: ping\n\n" + HELLO + DONE,
        b'event: ping\ndata: {"type": "ping"}\n\n' + HELLO + DONE,
        b'data: {"type": "ping"}\n\ndata: {}\n\n' + HELLO + DONE,
        b"retry: 3000\nevent: message\nid: 1\n" + HELLO + DONE,
        HELLO.replace(b"data: ", b"data:") + b"data:[DONE]\n\n",
        HELLO.replace(b"}\n\n", b"}\n") + DONE,
        HELLO + b"data: [done] \n\n",
        HELLO + b'data: "[DONE]"\n\n',
        HELLO + b"data: [ DONE ]\n\n",
        HELLO,
        HELLO[:-2],
        event({"choices": None}) + choice(delta=None) + HELLO + DONE,
        event({"choices": [], "error": None, "usage": None}) + HELLO + DONE,
        choice(index=1, delta={"content": "another"}) + HELLO + DONE,
        choice(index="0", delta={"content": "Hello", "tool_calls": []}) + STOP + DONE,
        delta(content=[{"type": "text", "text": "Hel"}, "lo"]) + STOP + DONE,
        delta(content={"type": "text", "text": "Hello"}) + STOP + DONE,
        delta("null", content="Hello") + STOP + DONE,
        choice(delta={"content": "Hello"}, logprobs=[], usage={}) + STOP + DONE,
        delta(content="Hello") + event({"choices": [], "x_groq": {"usage": {"prompt_tokens": 1}}}),
        event({"base_resp": {"status_code": 0}}) + HELLO + DONE,
        choice(text="Hello", finish_reason=None) + choice(text="", finish_reason="stop") + DONE,
        choice(delta={"content": "Hello"}, message={"content": "Hello"}) + STOP + DONE,
        delta(content="Hello") + choice(delta={}, message={"content": "Hello"}, finish_reason="stop") + DONE,
        choice(message={"role": "assistant", "content": "Hello"}, finish_reason="stop") + DONE,
        json.dumps({"choices": [{"message": {"content": "Hello"}, "finish_reason": "stop"}]}, indent=2).encode(),
        b" \n" + json.dumps({"choices": [{"message": {"content": "Hello"}, "finish_reason": "stop"}]}).encode(),
        HELLO.replace(b"data: ", b"").replace(b"\n\n", b"\n"),
        (HELLO + DONE).replace(b"data: ", b"data: data: "),
        b"[" + HELLO.replace(b"data: ", b"").rstrip().replace(b"\n\n", b",") + b"]",
        HELLO + event({"choices": [], "usage": "none"}) + DONE,
        HELLO + b"event: end\ndata: over\n\n" + DONE,
        choice(delta=[]) + HELLO + choice(delta=[], finish_reason=False) + DONE,
        *[delta(content="Hello", tool_calls=none) + STOP + DONE for none in NO_CALLS],
        delta(content="Hello", function_call={"name": "", "arguments": ""}) + STOP + DONE,
        choice(message={"content": "Hello", "function_call": {}, "tool_calls": []}, finish_reason="stop"),
        delta(content="Hello") + event({"choices": [], "usage": {"prompt_tokens": 1}}),
        delta(content="Hello") + choice(delta={}, usage={"prompt_tokens": "1"}),
    ],
)
@pytest.mark.parametrize("step", [1, 7, 10_000])
async def test_a_loose_stream_is_understood(stream: bytes, step: int) -> None:
    recording, done = await read(*[stream[start : start + step] for start in range(0, len(stream), step)])
    assert [entry for entry in recording.events if entry[0] != "fields"] == [("text", "Hello")]
    assert done.finish_reason == "stop"


@pytest.mark.parametrize(
    ("stream", "reason"),
    [
        (b"<!doctype html>\n<html>Sign  in</html>", "begins with '<!doctype html> <html>Sign in</html>'"),
        (b"upstream connect error", "begins with 'upstream connect error'"),
        (b'{"choices": [', "begins with"),
        (b"data: what?\n\n", "something else than chunks"),
        (choice(message={"content": "Hel"}), "not a whole one"),
        (delta(content="Hel"), "without a finish reason"),
        (delta(content="Hel") + DONE, "without a finish reason"),
        (event({"choices": [], "usage": {"prompt_tokens": 1}}), "without a finish reason"),
        (choice(index=0, output={"text": "Hello"}, finish_reason="stop"), "not understood: output"),
        (delta(content=[5]), "neither text nor a list"),
        (delta("null", content="Hel"), "without a finish reason"),
    ],
)
async def test_what_cannot_be_understood_says_what_it_is(stream: bytes, reason: str) -> None:
    with pytest.raises(StreamBroken, match=reason.replace("?", r"\?")):
        await read(stream)


async def test_usage_with_every_delta_does_not_make_a_cut_stream_whole() -> None:
    usage = {"prompt_tokens": 1}
    said = [{"choices": [{"delta": {"content": text}}], "usage": usage} for text in ("Hel", "")]
    with pytest.raises(StreamBroken, match="without a finish reason"):
        await read(*map(event, said))


async def test_a_reply_that_has_its_end_is_whole_however_the_connection_ends() -> None:
    recording = Recording()
    completion = Completion(recording)
    completion.data_received(HELLO)
    completion.failed(ConnectionResetError())
    assert (await completion.end()).finish_reason == "stop"


@pytest.mark.parametrize(
    ("stream", "body"),
    [
        (event({"error": {"message": "no", "code": 429}}), {"message": "no", "code": 429}),
        (event({"error": "no"}), "no"),
        (choice(delta={}, finish_reason="error", error={"code": 502}), {"code": 502}),
        (b'event: error\ndata: {"message": "no"}\n\n', {"message": "no"}),
        (b'event: error\ndata: {"type": "error", "error": {"message": "no"}}\n\n', {"message": "no"}),
        (b"event: error\ndata: no\n\n", "no"),
        (b'{"error": {"message": "no"}}', {"message": "no"}),
        (b'{"object": "error", "message": "no", "code": 400}', {"object": "error", "message": "no", "code": 400}),
        (b'{"detail": "no"}', {"detail": "no"}),
        (event({"choices": None, "base_resp": {"status_code": 1, "status_msg": "no"}}), {"message": "no", "code": 1}),
        (b'[{"error": {"message": "no", "code": 400}}]', {"message": "no", "code": 400}),
        (HELLO + event({"error": {"message": "no"}}), {"message": "no"}),
    ],
)
async def test_an_error_is_the_models_wherever_it_stands(stream: bytes, body: object) -> None:
    with pytest.raises(ModelReported) as reported:
        await read(stream)
    assert reported.value.body == body


# ------------------------------------------------------------ ends


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        *[(word, "stop") for word in ("stop", "STOP", "eos", "eos_token", "COMPLETE", "end_turn", "stop_sequence")],
        *[(word, "stop") for word in ("end_of_turn", "eosFound")],
        *[(word, "length") for word in ("length", "max_tokens", "MAX_TOKENS", "model_length")],
        *[(word, "content_filter") for word in ("content_filter", "SAFETY", "content_filter: RECITATION")],
        *[(word, "function_calls") for word in ("tool_calls", "tool_use", "function_call")],
    ],
)
async def test_words_of_one_meaning_are_one_reason(word: str, reason: str) -> None:
    _, done = await read(delta(content="a") + delta(word) + DONE)
    assert (done.finish_reason, done.reason) == (reason, "")


@pytest.mark.parametrize("word", ["pause_turn", "OTHER", "stopped by the user"])
async def test_an_unknown_word_goes_to_the_client(word: str) -> None:
    _, done = await read(delta(content="a") + delta(word) + DONE)
    assert (done.finish_reason, done.reason) == ("unknown", word)


@pytest.mark.parametrize(
    "word",
    [
        *("error", "abort", "network_error", "insufficient_system_resource", "MALFORMED_FUNCTION_CALL"),
        "function_call_filter: MALFORMED_FUNCTION_CALL",
    ],
)
async def test_a_bad_end_is_an_error(word: str) -> None:
    with pytest.raises(ModelReported) as reported:
        await read(delta(content="a") + delta(word) + DONE)
    assert reported.value.body == {"message": f"the model ended its reply with {word!r}", "code": word}


async def test_calls_end_in_calls_unless_the_reply_was_cut() -> None:
    part = call(index=0, id="1", **function("f", "{}"))
    assert (await read(part + STOP))[1].finish_reason == "function_calls"
    assert (await read(part + delta("length")))[1].finish_reason == "length"


# ------------------------------------------------------------ tool calls


F1, F2 = ("c1", "f", '{"a": 1}'), ("c2", "g", '{"b": 2}')


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        # Calls that share an index.
        ([call(index=0, id=id_, **function(name, arguments)) for id_, name, arguments in (F1, F2)], [F1, F2]),
        ([call(index=0, id=id_, **function("f", "{}")) for id_ in "ab"], [("a", "f", "{}"), ("b", "f", "{}")]),
        (
            [
                call(index=0, id="c1", **function("f", '{"a": ')),
                call(index=0, id="c2", **function("g", "")),
                call(index=0, id="c1", **function(None, "1}")),
                call(index=0, id="c2", **function(None, '{"b": 2}')),
            ],
            [F1, F2],
        ),
        # Ids and names that are repeated, grow, or come in pieces.
        ([call(index=0, id="c1", **function("f", text)) for text in ('{"a"', ": 1}")], [F1]),
        ([call(index=0, id="c1", **function("f", "")), call(index=0, id="x9", **function(None, '{"a": 1}'))], [F1]),
        ([call(index=0, id="c", **function("f")), call(index=0, id="c1", **function("f", '{"a": 1}'))], [F1]),
        ([call(index=0, id="c1", **function("get")), call(index=0, **function("_it", "{}"))], [("c1", "get_it", "{}")]),
        (
            [call(index=0, id="c1", **function("get")), call(index=0, **function("get_it", "{}"))],
            [("c1", "get_it", "{}")],
        ),
        # Arguments that are said again, whole or with what is new, and an empty object before them.
        ([call(index=0, id="c1", **function("f", '{"a": 1}'))] * 2, [F1]),
        (
            [call(index=0, id="c1", **function("f", ""))]
            + [call(index=0, **function(None, '{"a": 1}')) for _ in range(2)],
            [F1],
        ),
        (
            [
                call(index=0, id="c1", **function("f", '{"a"')),
                call(index=0, **function(None, ": 1}")),
                call(index=0, **function("f", '{"a": 1}')),
            ],
            [F1],
        ),
        ([call(index=0, id="c1", **function("f", '{"a": 1}'[:end])) for end in range(9)], [F1]),
        ([call(index=0, id="c1", **function("f", "{}")), call(index=0, **function(None, '{"a": 1}'))], [F1]),
        ([call(index=0, id="c1", **function("f", "{}")), call(index=0, id="c1", **function("f", '{"a": 1}'))], [F1]),
        (  # these are no repetitions
            [call(index=0, id="c1", **function("f", '{"a":')), call(index=0, **function(None, '{"a":1}}'))],
            [("c1", "f", '{"a":{"a":1}}')],
        ),
        (
            [call(index=0, id="c1", **function("f", text)) for text in ('{"a": "{}', '{}", "b": {"c": 1}', "}")],
            [("c1", "f", '{"a": "{}{}", "b": {"c": 1}}')],
        ),
        # Indexes that stray from their call.
        (
            [call(index=0, id="c1", **function("f", '{"a"')), call(index=1, **function(None, ": 1}"))],
            [F1],
        ),
        (
            [call(index=0, id="c1", **function("f", '{"a"')), call(index=1, id="c1", **function(None, ": 1}"))],
            [F1],
        ),
        ([call(index=-1, id=id_, **function(name, arguments)) for id_, name, arguments in (F1, F2)], [F1, F2]),
        # No index.
        ([call(id=id_, **function(name, arguments)) for id_, name, arguments in (F1, F2)], [F1, F2]),
        ([call(id="c1", **function("f", '{"a"')), call(**function(None, ": 1}"))], [F1]),
        ([call(id="c1", **function("f", '{"a"')), call(id="c1", **function("f", ": 1}"))], [F1]),
        # Odd types.
        (
            [
                call(index="0", id="c1", **function("f", '{"a": 1}')),
                call(index="1", id="c2", **function("g", '{"b": 2}')),
            ],
            [F1, F2],
        ),
        ([call(index=0.0, id=7, **function("f", '{"a": 1}'))], [("7", "f", '{"a": 1}')]),
        ([call(index=0, id="c1", **function("f", {"a": 1}))], [("c1", "f", '{"a":1}')]),
        ([call(index=0, id="c1", **function("f"))], [("c1", "f", "")]),
        ([call(index=0, id="c1", name="f", arguments="{}")], [("c1", "f", "{}")]),
        ([delta(tool_calls={"index": 0, "id": "c1", **function("f", "{}")})], [("c1", "f", "{}")]),
    ],
)
async def test_parts_find_their_call(parts: list[bytes], expected: list[tuple[str, str, str]]) -> None:
    assert await calls(*parts) == expected


@pytest.mark.parametrize("index", [0, None])
@pytest.mark.parametrize("id_", ["", None])
async def test_a_call_without_an_id_gets_one_of_its_own(index: int | None, id_: str | None) -> None:
    parts = [call(index=index, id=id_, **function(name, "{}")) for name in "ffg"]
    (first, *_), (second, *_), (third, *_) = found = await calls(*parts)
    assert [(name, arguments) for _, name, arguments in found] == [("f", "{}"), ("f", "{}"), ("g", "{}")]
    assert len({first, second, third}) == 3
    assert all(id_.startswith("call_") and len(id_) > 20 for id_ in (first, second, third))


@pytest.mark.parametrize("indexes", [(0, 1), (0, 0), (None, None)])
@pytest.mark.parametrize("names", ["fg", "ff"])
async def test_an_id_that_another_call_has_becomes_one_of_its_own(indexes: tuple[int, int], names: str) -> None:
    parts = [
        call(index=index, id="c1", **function(name, f'{{"n": "{name}{place}"}}'))
        for place, (index, name) in enumerate(zip(indexes, names, strict=True))
    ]
    (first, *one), (second, *two) = await calls(*parts)
    assert (one, two) == ([names[0], f'{{"n": "{names[0]}0"}}'], [names[1], f'{{"n": "{names[1]}1"}}'])
    assert first == "c1"
    assert second not in ("", "c1")


async def test_parts_with_the_same_id_find_their_call_by_its_index() -> None:
    parts = [call(index=index, id="c1", **function("f", "")) for index in range(2)]
    rest = [call(index=index, id="c1", **function(None, f"[{index}]")) for index in range(2)]
    assert [arguments for *_, arguments in await calls(*parts, *rest)] == ["[0]", "[1]"]


async def test_the_former_shape_of_a_call_is_a_call() -> None:
    parts = [delta(function_call=part) for part in ({"name": "f", "arguments": ""}, {"arguments": "{}"})]
    assert [(name, arguments) for _, name, arguments in await calls(*parts)] == [("f", "{}")]


async def test_a_number_is_text() -> None:
    assert (await read(delta(content=5), delta(content="!"), STOP))[0].events == [("text", "5!")]


async def test_a_whole_messages_calls_are_calls() -> None:
    message = {"content": None, "tool_calls": [{"id": "", **function(name, {})} for name in "ff"]}
    found = await calls(choice(message=message, finish_reason="stop"))
    assert [(name, arguments) for _, name, arguments in found] == [("f", "{}"), ("f", "{}")]


# ------------------------------------------------------------ what is passed on


@pytest.mark.parametrize(
    ("content", "events", "more"),
    [
        ([{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}], [("reasoning", "hm")], []),
        (
            [{"type": "reasoning", "text": "hm"}, {"type": "text", "text": "a"}],
            [("reasoning", "hm"), ("text", "a")],
            [],
        ),
        (
            [{"type": "image_url", "image_url": {"url": "u"}}],
            [],
            [{"images": [{"type": "image_url", "image_url": {"url": "u"}}]}],
        ),
        (
            [{"type": "reference", "reference_ids": [1]}],
            [],
            [{"content_parts": [{"type": "reference", "reference_ids": [1]}]}],
        ),
        (
            [{"type": "text", "text": "a", "annotations": [1]}],
            [("text", "a")],
            [{"content_parts": [{"type": "text", "annotations": [1]}]}],
        ),
    ],
)
async def test_parts_of_content_are_text_reasoning_or_fields(content: Any, events: Any, more: Any) -> None:
    recording, _ = await read(delta(content=content) + STOP)
    assert [entry for entry in recording.events if entry[0] != "fields"] == events
    assert [parts["delta"] for parts in fields(recording)] == more


async def test_reasoning_of_another_shape_is_passed_on_as_it_came() -> None:
    recording, _ = await read(delta(reasoning={"text": "hm"}), delta(reasoning_content=["hm"]), HELLO)
    assert fields(recording) == [{"delta": {"reasoning": {"text": "hm"}}}, {"delta": {"reasoning_content": ["hm"]}}]


async def test_the_same_reasoning_under_two_names_is_one() -> None:
    recording, _ = await read(delta(reasoning="hm", reasoning_content="hm"), HELLO)
    assert recording.events == [("reasoning", "hm"), ("text", "Hello")]
    recording, _ = await read(delta(reasoning="hm", reasoning_content="so"), HELLO)
    assert fields(recording) == [{"delta": {"reasoning": "hm"}}]


async def test_a_call_of_another_type_is_passed_on_whole() -> None:
    part = {"index": 0, "id": "c1", "type": "custom", "custom": {"name": "n", "input": "i"}}
    recording, done = await read(delta(tool_calls=[part]), STOP)
    assert fields(recording) == [{"delta": {"tool_calls": [part]}}]
    assert done.finish_reason == "function_calls"


async def test_fields_of_chunks_do_not_begin_a_reply() -> None:
    head = {"system_fingerprint": "fp", "x": 1}
    role = event({**head, "choices": [{"delta": {"role": "assistant", "content": ""}}]})
    recording = Recording()
    completion = Completion(recording)
    completion.data_received(role)
    assert not recording.events
    completion.data_received(event({**head, "choices": [{"delta": {"content": "a"}}]}) + STOP)
    assert [kind for kind, _ in recording.events] == ["fields", "text"]
    assert fields(recording) == [{"chunk": head}]


async def test_fields_that_do_not_change_are_written_once() -> None:
    chunks = [
        {"choices": [{"delta": {"content": "a"}, "content_filter_results": {"hate": {"filtered": False}}}], **more}
        for more in ({"service_tier": "x"}, {"service_tier": "x"}, {"service_tier": "y", "obfuscation": "a"}, {"x": 1})
    ]
    recording, _ = await read(*map(event, chunks), STOP)
    assert fields(recording) == [
        {"choice": {"content_filter_results": {"hate": {"filtered": False}}}, "chunk": {"service_tier": "x"}},
        {"chunk": {"service_tier": "y"}},
        {"chunk": {"x": 1}},
    ]


async def test_usage_is_kept_as_it_came() -> None:
    usage = {"prompt_tokens": "12", "completion_tokens": 3.0, "total_tokens": 40, "cost": 0.5, "details": {"a": None}}
    _, done = await read(HELLO, event({"choices": [], "usage": usage}), DONE)
    assert (done.usage.prompt_tokens, done.usage.completion_tokens) == (12, 3)
    assert json.loads(done.usage.extra) == usage
    _, done = await read(HELLO, event({"choices": [], "usage": {"input_tokens": 1, "output_tokens": 2}}), DONE)
    assert (done.usage.prompt_tokens, done.usage.completion_tokens) == (1, 2)
