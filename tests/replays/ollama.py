"""Ollama, by its own API, which we use, and by the one that is compatible with OpenAI's."""

from tests.replays.replay import (
    PARIS,
    ROME,
    WEATHER,
    Json,
    Replay,
    Want,
    chunks,
    events,
    lines,
    refusal,
)

ENTRY = "llama3.2"
PATH = "/api/chat"
DURATIONS = {"total_duration": 4883583458, "load_duration": 1334875, "prompt_eval_duration": 342546000}
MET = {"done_reason": "stop", "done": True, "prompt_eval_count": 26, "eval_count": 7, **DURATIONS, "eval_duration": 45}
USAGE = {"prompt_tokens": 26, "completion_tokens": 7, "total_tokens": 33}


def said(done: Json | None = None, **message: object) -> Json:
    message = {"role": "assistant", "content": "", **message}
    head = {"model": "llama3.2", "created_at": "2026-08-04T08:52:19.385406455-07:00", "message": message}
    return {**head, "done": False} | (done or {})


def call(city: str, **more: object) -> Json:
    return {**more, "function": {"index": 0, "name": "get_weather", "arguments": {"city": city}}}


COMPATIBLE = {
    "id": "chatcmpl-327",
    "object": "chat.completion.chunk",
    "created": 1764000000,
    "model": "llama3.2",
    "system_fingerprint": "fp_ollama",
}

REPLAYS = [
    Replay(
        "ollama",
        ENTRY,
        lines(said(thinking="Hm."), said(content="Hel"), said(content="lo"), said(MET)),
        Want("Hello", "Hm.", usage={**USAGE, **DURATIONS}),
        asked={"max_tokens": 50, "seed": 1, "top_k": 5, "stop": "\n", "reasoning_effort": "low", "keep_alive": "1h"},
        path=PATH,
        sent={
            "model": "llama3.2",
            "options": {"num_ctx": 8192, "num_predict": 50, "seed": 1, "top_k": 5, "stop": ["\n"]},
            "think": "low",
            "keep_alive": "1h",
        },
    ),
    Replay(
        "ollama-says-more-than-we-know",
        ENTRY,
        lines(
            said({"remote_model": "llama3.2:cloud"}, content="Hello", mood={"calm": True}),
            said({**MET, "new_metric": 5}, content="!"),
        ),
        Want("Hello!", fields={"remote_model": "llama3.2:cloud", "mood": {"calm": True}, "new_metric": 5}),
        asked={"user": "u", "new_option": {"a": 1}, "options": {"num_ctx": 100, "new": 2}},
        path=PATH,
        sent={"user": "u", "new_option": {"a": 1}, "options": {"num_ctx": 100, "new": 2}},
    ),
    Replay(
        "ollama-counts-probabilities",
        ENTRY,
        lines(
            said(
                {"logprobs": [{"token": "Hi", "logprob": -0.1, "bytes": [72, 105], "top_logprobs": []}]}, content="Hi"
            ),
            said(MET),
        ),
        Want(
            "Hi",
            fields={
                "logprobs": {
                    "content": [{"token": "Hi", "logprob": -0.1, "bytes": [72, 105], "top_logprobs": []}],
                    "refusal": None,
                }
            },
        ),
        asked={"logprobs": True, "top_logprobs": 0},
        path=PATH,
        sent={"logprobs": True, "top_logprobs": 0},
    ),
    Replay(
        "ollama-calls-in-two-lines",
        ENTRY,
        lines(said(tool_calls=[call("Paris")]), said(tool_calls=[call("Rome")]), said(MET)),
        Want(calls=(PARIS, ROME), finish="tool_calls", usage=USAGE),
        asked=WEATHER,
        path=PATH,
        sent=WEATHER,
    ),
    Replay(
        "ollama-calls-in-one-line",
        ENTRY,
        lines(said(tool_calls=[call("Paris", id="call_1"), call("Rome", id="call_2")]), said(MET)),
        Want(calls=(PARIS, ROME), finish="tool_calls"),
        asked=WEATHER,
        path=PATH,
    ),
    Replay(
        "ollama-gets-its-calls-back",
        ENTRY,
        lines(said(content="Rain."), said(MET)),
        Want("Rain."),
        asked={
            "messages": [
                {"role": "user", "content": "What is the weather?"},
                {
                    "role": "assistant",
                    "content": None,
                    "reasoning_content": "Hm.",
                    "tool_calls": [
                        {
                            "id": "call_1",
                            "type": "function",
                            "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'},
                        }
                    ],
                },
                {"role": "tool", "tool_call_id": "call_1", "content": "Rain."},
                {"role": "system", "content": "Be short."},
            ]
        },
        path=PATH,
        sent={
            "messages": [
                {"role": "user", "content": "What is the weather?"},
                {
                    "role": "assistant",
                    "content": "",
                    "thinking": "Hm.",
                    "tool_calls": [
                        {
                            "id": "call_1",
                            "type": "function",
                            "function": {"name": "get_weather", "arguments": {"city": "Paris"}},
                        }
                    ],
                },
                {"role": "tool", "tool_call_id": "call_1", "tool_name": "get_weather", "content": "Rain."},
                {"role": "system", "content": "Be short."},
            ]
        },
    ),
    Replay(
        "ollama-keeps-to-a-schema",
        ENTRY,
        lines(said(content='{"a":1}'), said(MET)),
        Want('{"a":1}'),
        asked={
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "n", "schema": {"type": "object", "$defs": {"x": {"enum": ["a"]}}}},
            }
        },
        path=PATH,
        sent={"format": {"type": "object", "$defs": {"x": {"enum": ["a"]}}}},
    ),
    Replay(
        "ollama-reaches-its-limit",
        ENTRY,
        lines(said(content="Half a"), said({**MET, "done_reason": "length"})),
        Want("Half a", finish="length"),
        path=PATH,
    ),
    Replay(
        "ollama-cut",
        ENTRY,
        lines(said(content="Half a")),
        Want("Half a", status=502, error={"code": "model_stream_broken"}),
        path=PATH,
    ),
    Replay(
        "ollama-error-in-a-stream",
        ENTRY,
        lines(said(content="Half a"), {"error": "an error was encountered while running the model"}),
        Want("Half a", status=502, error={"message": "an error was encountered"}),
        path=PATH,
    ),
    Replay(
        "ollama-has-no-such-model",
        ENTRY,
        refusal(404, {"error": "model 'llama3.2' not found"}),
        Want(status=404, error={"message": "model 'llama3.2' not found"}),
        path=PATH,
    ),
    Replay(
        "ollama-model-has-no-tools",
        ENTRY,
        refusal(400, {"error": "registry.ollama.ai/library/llama3.2:latest does not support tools"}),
        Want(status=400, error={"message": "does not support tools"}),
        asked=WEATHER,
        path=PATH,
    ),
    Replay(
        "ollama-compatible",
        "vllm",
        events(
            *chunks(
                COMPATIBLE,
                {"delta": {"role": "assistant", "content": "", "reasoning": "Hm."}, "finish_reason": None},
                {"delta": {"content": "Hello"}, "finish_reason": None},
                {"delta": {}, "finish_reason": "stop"},
                usage=USAGE,
            )
        ),
        Want("Hello", "Hm.", usage=USAGE, fields={"system_fingerprint": "fp_ollama"}),
    ),
    Replay(
        "ollama-compatible-calls",
        "vllm",
        events(
            *chunks(
                COMPATIBLE,
                {
                    "delta": {
                        "role": "assistant",
                        "content": "",
                        "tool_calls": [
                            {
                                "id": f"call_{city}",
                                "index": 0,
                                "type": "function",
                                "function": {"name": "get_weather", "arguments": f'{{"city":"{city}"}}'},
                            }
                            for city in ("Paris", "Rome")
                        ],
                    },
                    "finish_reason": None,
                },
                {"delta": {}, "finish_reason": "tool_calls"},
            )
        ),
        Want(calls=(PARIS, ROME), finish="tool_calls"),
        asked=WEATHER,
    ),
]
