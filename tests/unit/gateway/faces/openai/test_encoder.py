"""OpenAI's format."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from fleet.process.turns import at_once
from gateway.chats.reply import Completed
from gateway.errors import UnknownModel, WorkerLost
from gateway.faces.openai.encoder import OpenAIFormat
from gateway.faces.openai.face import OpenAIFace
from protos import chat_pb2 as pb
from tests.growth import assert_linear
from tests.unit.gateway.faces.ndjson.test_encoder import UNEXPRESSED

DONE = Completed("stop", pb.Usage(prompt_tokens=3, completion_tokens=4))


def events(raw: bytes) -> list[Any]:
    blocks = raw.decode().split("\n\n")
    assert blocks[-1] == ""
    payloads = [block.removeprefix("data: ") for block in blocks[:-1]]
    return [payload if payload == "[DONE]" else json.loads(payload) for payload in payloads]


def encoder(*, include_usage: bool = False) -> OpenAIFormat:
    return OpenAIFormat("r", lambda: "m", include_usage=include_usage)


def test_a_stream_is_what_openais_clients_expect() -> None:
    made = encoder()
    stream = events(made.event(pb.ReplyEvent(text="a")) + made.event(pb.ReplyEvent(text="b")) + made.end(DONE))
    assert [chunk["choices"][0]["delta"] for chunk in stream[:-1]] == [
        {"role": "assistant", "content": "a"},
        {"content": "b"},
        {},
    ]
    assert [chunk["choices"][0]["finish_reason"] for chunk in stream[:-1]] == [None, None, "stop"]
    assert {(chunk["id"], chunk["model"], chunk["object"]) for chunk in stream[:-1]} == {
        ("chatcmpl-r", "m", "chat.completion.chunk")
    }
    assert len({chunk["created"] for chunk in stream[:-1]}) == 1
    assert stream[-1] == "[DONE]"
    assert all("usage" not in chunk for chunk in stream[:-1])


def test_usage_comes_last_with_empty_choices_when_asked_for() -> None:
    made = encoder(include_usage=True)
    stream = events(made.event(pb.ReplyEvent(text="a")) + made.end(DONE))
    assert [chunk["usage"] for chunk in stream[:2]] == [None, None]
    assert stream[2]["choices"] == []
    assert stream[2]["usage"] == {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}


def test_a_tool_call_is_streamed_in_parts() -> None:
    made = encoder()
    parts = [pb.ToolCall(id="1", name="f"), pb.ToolCall(arguments="{}"), pb.ToolCall(arguments='"é', index=3)]
    written = [made.event(pb.ReplyEvent(tool_call=part)) for part in parts]
    stream = events(b"".join(written) + made.end(Completed("function_calls")))
    assert stream[0]["choices"][0]["delta"]["tool_calls"] == [
        {"index": 0, "id": "1", "type": "function", "function": {"name": "f", "arguments": ""}}
    ]
    assert stream[1]["choices"][0]["delta"]["tool_calls"] == [{"index": 0, "function": {"arguments": "{}"}}]
    assert stream[2]["choices"][0]["delta"]["tool_calls"] == [{"index": 3, "function": {"arguments": '"é'}}]
    assert stream[3]["choices"][0]["finish_reason"] == "tool_calls"


def test_reasoning_and_log_probabilities_are_no_text() -> None:
    made = encoder()
    token = {"token": "a", "logprob": -0.1, "bytes": [97], "top_logprobs": []}
    written = [
        pb.ReplyEvent(reasoning="hm"),
        pb.ReplyEvent(logprobs=json.dumps([token])),
        pb.ReplyEvent(reasoning="so"),
    ]
    stream = events(b"".join([made.event(event) for event in written]))
    assert stream[0]["choices"][0]["delta"] == {"role": "assistant", "content": "", "reasoning_content": "hm"}
    assert stream[1]["choices"][0]["logprobs"]["content"] == [token]
    assert stream[1]["choices"][0]["delta"] == {}
    assert stream[2]["choices"][0]["delta"] == {"reasoning_content": "so"}


FIRST: list[tuple[pb.ReplyEvent, dict[str, Any]]] = [
    (pb.ReplyEvent(text="a"), {"content": "a"}),
    (pb.ReplyEvent(reasoning="a"), {"content": "", "reasoning_content": "a"}),
    (
        pb.ReplyEvent(tool_call=pb.ToolCall(arguments="a")),
        {"content": "", "tool_calls": [{"index": 0, "function": {"arguments": "a"}}]},
    ),
    (pb.ReplyEvent(logprobs="[1]"), {"content": ""}),
]


@pytest.mark.parametrize(("event", "fields"), FIRST, ids=[event.WhichOneof("event") for event, _ in FIRST])
@pytest.mark.parametrize("include_usage", [True, False])
def test_the_first_event_and_no_other_has_the_role(
    event: pb.ReplyEvent, fields: dict[str, Any], include_usage: bool
) -> None:
    made = encoder(include_usage=include_usage)
    first, second = events(made.event(event) + made.event(event))
    assert first["choices"][0]["delta"] == {"role": "assistant", **fields}
    assert "role" not in second["choices"][0]["delta"]
    for chunk in (first, second):
        del chunk["choices"][0]["delta"]
    assert first == second
    assert ("usage" in first) == include_usage


def test_an_empty_reply_has_the_role_too() -> None:
    stream = events(encoder().end(DONE))
    assert stream[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}


@pytest.mark.parametrize("event", UNEXPRESSED[1:], ids=lambda event: event.WhichOneof("event"))
def test_kinds_that_openai_does_not_have_are_left_out(event: pb.ReplyEvent) -> None:
    made = encoder()
    assert made.event(event) == b""
    stream = events(made.event(pb.ReplyEvent(text="a")))
    assert stream[0]["choices"][0]["delta"]["role"] == "assistant"
    assert json.loads(at_once(made.whole([event], DONE)))["choices"][0]["message"]["content"] == ""


def test_a_failure_in_the_stream_is_its_end() -> None:
    stream = events(encoder().end(WorkerLost("worker_lost", "gone")))
    assert len(stream) == 1
    assert stream[0]["error"] == {
        "message": "gone",
        "type": "server_error",
        "param": None,
        "code": "worker_lost",
        "retryable": True,
        "request_id": "r",
    }


def test_a_whole_completion() -> None:
    reply = [
        pb.ReplyEvent(reasoning="hm"),
        pb.ReplyEvent(text="a"),
        pb.ReplyEvent(text="b"),
        pb.ReplyEvent(tool_call=pb.ToolCall(id="1", name="f", arguments="{")),
        pb.ReplyEvent(tool_call=pb.ToolCall(arguments="}")),
    ]
    body = json.loads(at_once(encoder().whole(reply, DONE)))
    assert body["object"] == "chat.completion"
    assert body["choices"] == [
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": "ab",
                "refusal": None,
                "reasoning_content": "hm",
                "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
            },
            "logprobs": None,
            "finish_reason": "stop",
        }
    ]
    assert body["usage"]["total_tokens"] == 7


def fields(value: Any, **more: bool) -> pb.ReplyEvent:
    return pb.ReplyEvent(fields=pb.Fields(json=json.dumps(value), **more))


def test_fields_are_in_the_chunk_of_what_they_came_beside() -> None:
    made = encoder()
    part = pb.ToolCall(id="1", name="f", arguments="{}")
    written = [
        fields({"chunk": {"service_tier": "x", "citations": [1]}}, beside=True),
        fields({"delta": {"reasoning_details": [1]}}, beside=True),
        pb.ReplyEvent(reasoning="hm"),
        fields({"delta": {"tool_calls": [{"index": 0, "extra_content": 2}]}}, beside=True),
        pb.ReplyEvent(tool_call=part),
        fields({"delta": {"images": [3]}, "logprobs": {"refusal": [4]}}),
        pb.ReplyEvent(text="a"),
        fields({"choice": {"stop_reason": 5}}, beside=True),
    ]
    stream = events(b"".join(map(made.event, written)) + made.end(DONE))[:-1]
    choices = [chunk["choices"][0] for chunk in stream]
    function = {"name": "f", "arguments": "{}"}
    assert [choice["delta"] for choice in choices] == [
        {"role": "assistant", "content": "", "reasoning_content": "hm", "reasoning_details": [1]},
        {"tool_calls": [{"index": 0, "id": "1", "type": "function", "function": function, "extra_content": 2}]},
        {"images": [3]},
        {"content": "a"},
        {},
    ]
    assert [choice.get("stop_reason") for choice in choices] == [None] * 4 + [5]
    assert choices[2]["logprobs"] == {"content": None, "refusal": [4]}
    assert [chunk.get("citations") for chunk in stream] == [[1]] + [None] * 4
    assert [chunk["service_tier"] for chunk in stream] == ["x"] * 5  # it is the same in every chunk of the model's


def test_a_field_that_grows_is_not_repeated() -> None:
    made = encoder()
    held = fields({"chunk": {"x": "a" * 1000, **{f"y{number}": 1 for number in range(100)}}}, beside=True)
    first, second = events(made.event(held) + made.event(pb.ReplyEvent(text="a")) + made.event(pb.ReplyEvent(text="b")))
    assert len(first["x"]) == 1000
    assert "x" not in second
    assert "y1" not in second


def test_a_refusal_is_no_content() -> None:
    reply = [fields({"delta": {"refusal": "I can"}}), fields({"delta": {"refusal": "not"}})]
    message = json.loads(at_once(encoder().whole(reply, DONE)))["choices"][0]["message"]
    assert (message["content"], message["refusal"]) == (None, "I cannot")


def test_the_usage_and_the_reason_are_the_models() -> None:
    usage = pb.Usage(prompt_tokens=1, completion_tokens=2, extra='{"prompt_tokens": "1", "total_tokens": 9, "cost": 1}')
    body = json.loads(at_once(encoder().whole([], Completed("pause_turn", usage))))
    assert body["usage"] == {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 9, "cost": 1}
    assert body["choices"][0]["finish_reason"] == "pause_turn"


def test_an_error_has_openais_fields() -> None:
    response = OpenAIFace().refusal(UnknownModel("x", ["m"]), "r")
    error = json.loads(bytes(response.body))["error"]
    assert response.status_code == 404
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", "model", "model_not_found")


def test_many_small_parts_of_a_call_are_joined_in_one_go() -> None:
    def whole(parts: int) -> Callable[[], bytes]:
        reply = [pb.ReplyEvent(tool_call=pb.ToolCall(id="1", name="f"))]
        reply += [pb.ReplyEvent(tool_call=pb.ToolCall(arguments="0123456789" * 20)) for _ in range(parts)]
        return lambda: at_once(encoder().whole(reply, DONE))

    body = json.loads(whole(1000)())
    assert len(body["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"]) == 200_000
    assert_linear(whole, 500)


def test_pings_are_empty_chunks_and_change_nothing_about_the_others() -> None:
    events = [pb.ReplyEvent(reasoning="a"), pb.ReplyEvent(text="b"), pb.ReplyEvent(text="c")]
    plain, pinged = (OpenAIFormat("r", lambda: "m", include_usage=True) for _ in range(2))
    plain._created = pinged._created
    for event in events:
        ping = pinged.ping()
        chunk = json.loads(ping.removeprefix(b"data: "))
        assert ping.endswith(b"\n\n")
        assert (chunk["object"], chunk["usage"]) == ("chat.completion.chunk", None)
        assert chunk["choices"] == [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": None}]
        assert pinged.event(event) == plain.event(event)
    assert pinged.end(Completed("stop", pb.Usage())) == plain.end(Completed("stop", pb.Usage()))
