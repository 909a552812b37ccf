"""The server of llama.cpp, and llama-cpp-python's, which serves the embedded model."""

from tests.replays.replay import PARIS, WEATHER, Answer, Json, Replay, Want, event, events, refusal

ENTRY = "llama-server"
TIMINGS = {"cache_n": 0, "prompt_n": 11, "prompt_ms": 203.4, "predicted_n": 3, "predicted_ms": 93.6}
USAGE = {"completion_tokens": 3, "prompt_tokens": 11, "total_tokens": 14}


def said(*, finish: str | None = None, **delta: object) -> Json:
    return {
        "choices": [{"finish_reason": finish, "index": 0, "delta": delta}],
        "created": 1764000000,
        "id": "chatcmpl-DHvcEyFobkuV4Xu1",
        "model": "served",
        "system_fingerprint": "b6881-8b11deea4",
        "object": "chat.completion.chunk",
    }


COUNTED = {**said(), "choices": [], "usage": USAGE, "timings": TIMINGS}
FULL = {"code": 400, "message": "the request exceeds the available context size", "type": "exceed_context_size_error"}


def embedded(*, finish: str | None = None, **delta: object) -> Json:
    return {
        "id": "chatcmpl-9d1c",
        "model": "smollm2",
        "created": 1764000000,
        "object": "chat.completion.chunk",
        "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}],
    }


REPLAYS = [
    Replay(
        "llama.cpp",
        ENTRY,
        events(
            said(role="assistant", content=None),
            said(reasoning_content="Hm."),
            said(content="Hel"),
            said(content="lo"),
            said(finish="stop"),
            COUNTED,
        ),
        Want("Hello", "Hm.", usage=USAGE, fields={"timings": TIMINGS, "system_fingerprint": "b6881-8b11deea4"}),
        asked={"grammar": 'root ::= "Hello"', "cache_prompt": True},
        sent={"grammar": 'root ::= "Hello"', "cache_prompt": True},
    ),
    Replay(
        "llama.cpp-counts-in-its-last-chunk",
        ENTRY,
        events(said(content="Hello"), {**said(finish="length"), "usage": USAGE, "timings": TIMINGS}),
        Want("Hello", finish="length", usage=USAGE, fields={"timings": TIMINGS}),
    ),
    Replay(
        "llama.cpp-calls",
        ENTRY,
        events(
            said(role="assistant", content=None),
            said(
                tool_calls=[
                    {
                        "index": 0,
                        "id": "yP4xNkIKo7Ck",
                        "type": "function",
                        "function": {"name": "get_weather", "arguments": "{"},
                    }
                ]
            ),
            said(tool_calls=[{"index": 0, "function": {"arguments": '"city":"Paris"}'}}]),
            said(finish="tool_calls"),
        ),
        Want(calls=(PARIS,), finish="tool_calls"),
        asked=WEATHER,
    ),
    Replay(
        "llama.cpp-refuses",
        ENTRY,
        refusal(400, {"error": {**FULL, "n_prompt_tokens": 9000, "n_ctx": 4096}}),
        Want(status=400, error={"message": "exceeds the available context size", "type": "exceed_context_size_error"}),
    ),
    Replay(
        "llama.cpp-loads",
        ENTRY,
        refusal(503, {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}),
        Want(status=503, error={"message": "Loading model"}),
    ),
    Replay(
        "llama.cpp-error-in-a-stream",
        ENTRY,
        events(said(content="Hel"), {"error": {"code": 500, "message": "decoding failed", "type": "server_error"}}),
        Want("Hel", status=502, error={"message": "decoding failed"}),
    ),
    Replay(
        "llama.cpp-error-as-a-field",
        ENTRY,
        Answer(
            (
                event(said(content="Hel")),
                b'error: {"code":500,"message":"decoding failed","type":"server_error"}\n\n',
            )
        ),
        Want("Hel", status=502),
    ),
    Replay(
        "embedded",
        "smollm2",
        events(embedded(role="assistant"), embedded(content="Hel"), embedded(content="lo"), embedded(finish="stop")),
        Want("Hello"),
    ),
]
