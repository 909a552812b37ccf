"""Anthropic's Messages API."""

import json

from tests.replays.replay import PARIS, ROME, WEATHER, Answer, Json, Replay, Want, refusal

ENTRY = "claude-sonnet"
PATH = "/v1/messages"


def event(body: Json) -> bytes:
    return f"event: {body['type']}\ndata: {json.dumps(body)}\n\n".encode()


def stream(*bodies: Json) -> Answer:
    return Answer(tuple(event(body) for body in bodies))


START: Json = {
    "type": "message_start",
    "message": {
        "id": "msg_01XFDUDYJgAACzvnptvVoYEL",
        "type": "message",
        "role": "assistant",
        "model": "claude-sonnet-4-20250514",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {
            "input_tokens": 472,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 400,
            "output_tokens": 2,
            "service_tier": "standard",
        },
    },
}
PING: Json = {"type": "ping"}
STOP: Json = {"type": "message_stop"}


def end(reason: str) -> list[Json]:
    delta = {"stop_reason": reason, "stop_sequence": None}
    return [{"type": "message_delta", "delta": delta, "usage": {"output_tokens": 89}}, STOP]


def block(index: int, begin: Json, *deltas: Json) -> list[Json]:
    return [
        {"type": "content_block_start", "index": index, "content_block": begin},
        *[{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas],
        {"type": "content_block_stop", "index": index},
    ]


def text(index: int, *pieces: str) -> list[Json]:
    return block(index, {"type": "text", "text": ""}, *[{"type": "text_delta", "text": piece} for piece in pieces])


def call(index: int, *pieces: str) -> list[Json]:
    begin = {"type": "tool_use", "id": f"toolu_{index}", "name": "get_weather", "input": {}}
    return block(index, begin, *[{"type": "input_json_delta", "partial_json": piece} for piece in ("", *pieces)])


THOUGHT = block(
    0,
    {"type": "thinking", "thinking": "", "signature": ""},
    {"type": "thinking_delta", "thinking": "Hm."},
    {"type": "signature_delta", "signature": "EqQBCgIYAhIM"},
)

REPLAYS = [
    Replay(
        "claude",
        ENTRY,
        stream(START, PING, *THOUGHT, *text(1, "Hel", "lo"), PING, *end("end_turn")),
        Want("Hello", "Hm.", usage={"completion_tokens": 89}),
        path=PATH,
        headers={"authorization": "Bearer key-anthropic"},
        sent={"stream": True},
    ),
    Replay(
        "claude-calls",
        ENTRY,
        stream(START, *call(0, '{"city":', ' "Paris"}'), *call(1, '{"city": "Rome"}'), *end("tool_use")),
        Want(calls=(PARIS, ROME), finish="tool_calls"),
        asked=WEATHER,
        path=PATH,
    ),
    Replay(
        "claude-reaches-its-limit",
        ENTRY,
        stream(START, *text(0, "Half a"), *end("max_tokens")),
        Want("Half a", finish="length"),
        path=PATH,
    ),
    Replay(
        "claude-cut",
        ENTRY,
        stream(START, *text(0, "Half a")),
        Want("Half a", status=502, error={"code": "model_stream_broken"}),
        path=PATH,
    ),
    Replay(
        "claude-error-in-a-stream",
        ENTRY,
        stream(
            START,
            *text(0, "Half a"),
            {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},
        ),
        Want("Half a", status=503, error={"message": "Overloaded"}),
        path=PATH,
    ),
    Replay(
        "claude-refuses",
        ENTRY,
        refusal(
            400,
            {
                "type": "error",
                "error": {"type": "invalid_request_error", "message": "prompt is too long: 210000 tokens"},
            },
        ),
        Want(status=400, error={"message": "prompt is too long", "type": "invalid_request_error"}),
        path=PATH,
    ),
]
