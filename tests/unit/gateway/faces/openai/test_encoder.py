"""OpenAI's format."""

import json
from typing import Any

from gateway.chats.reply import Completed, Piece
from gateway.errors import UnknownModel, WorkerLost
from gateway.faces.openai.encoder import OpenAIFormat
from protos import chat_pb2 as pb

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
    stream = events(made.piece(Piece(text="a")) + made.piece(Piece(text="b")) + made.end(DONE))
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
    stream = events(made.piece(Piece(text="a")) + made.end(DONE))
    assert [chunk["usage"] for chunk in stream[:2]] == [None, None]
    assert stream[2]["choices"] == []
    assert stream[2]["usage"] == {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}


def test_a_tool_call_is_streamed_in_parts() -> None:
    made = encoder()
    parts = [pb.ToolCall(id="1", name="f"), pb.ToolCall(arguments="{}")]
    stream = events(
        b"".join(made.piece(Piece(tool_call=part)) for part in parts) + made.end(Completed("function_calls"))
    )
    assert stream[0]["choices"][0]["delta"]["tool_calls"] == [
        {"index": 0, "id": "1", "type": "function", "function": {"name": "f", "arguments": ""}}
    ]
    assert stream[1]["choices"][0]["delta"]["tool_calls"] == [{"index": 0, "function": {"arguments": "{}"}}]
    assert stream[2]["choices"][0]["finish_reason"] == "tool_calls"


def test_reasoning_and_log_probabilities_are_no_text() -> None:
    made = encoder()
    token = {"token": "a", "logprob": -0.1, "bytes": [97], "top_logprobs": []}
    stream = events(made.piece(Piece(reasoning="hm")) + made.piece(Piece(logprobs=[token])))
    assert stream[0]["choices"][0]["delta"] == {"role": "assistant", "content": "", "reasoning_content": "hm"}
    assert stream[1]["choices"][0]["logprobs"]["content"] == [token]


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
    pieces = [
        Piece(reasoning="hm"),
        Piece(text="a"),
        Piece(text="b"),
        Piece(tool_call=pb.ToolCall(id="1", name="f", arguments="{")),
        Piece(tool_call=pb.ToolCall(arguments="}")),
    ]
    body = json.loads(encoder().whole(pieces, DONE))
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


def test_an_error_has_openais_fields() -> None:
    response = encoder().refusal(UnknownModel("x", ["m"]))
    error = json.loads(bytes(response.body))["error"]
    assert response.status_code == 404
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", "model", "model_not_found")
