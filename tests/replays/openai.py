"""OpenAI."""

from tests.replays.replay import PARIS, ROME, WEATHER, Json, Replay, Want, chunks, events, refusal

ENTRY = "gpt-4o-mini"
KEY = {"authorization": "Bearer key-openai"}


def head(token: int = 0) -> Json:
    return {
        "id": "chatcmpl-CaBcD1",
        "object": "chat.completion.chunk",
        "created": 1764000000,
        "model": "gpt-4o-mini-2024-07-18",
        "service_tier": "default",
        "system_fingerprint": "fp_50906f2aac",
        "usage": None,
        "obfuscation": "xK3" + "a" * token,
    }


def said(token: int, *, finish: str | None = None, **delta: object) -> Json:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    return {**head(token), "choices": [choice]}


def part(index: int, arguments: str, **first: str) -> Json:
    """A part of a tool call; the first one has an id and a name."""
    function = {"arguments": arguments} | ({"name": first.pop("name")} if first else {})
    return {"index": index, **first, **({"type": "function"} if first else {}), "function": function}


USAGE = {
    "prompt_tokens": 19,
    "completion_tokens": 10,
    "total_tokens": 29,
    "prompt_tokens_details": {"cached_tokens": 16, "audio_tokens": 0},
    "completion_tokens_details": {
        "reasoning_tokens": 4,
        "audio_tokens": 0,
        "accepted_prediction_tokens": 0,
        "rejected_prediction_tokens": 0,
    },
}
COUNTED = list(chunks(head(), usage=USAGE))
TOO_LONG = "This model's maximum context length is 128000 tokens. However, your messages resulted in 130002 tokens."

REPLAYS = [
    Replay(
        "openai",
        ENTRY,
        events(
            said(1, role="assistant", content="", refusal=None),
            *[said(number, content=word) for number, word in enumerate(("Hel", "lo", "!"))],
            said(4, finish="stop"),
            *COUNTED,
        ),
        Want(
            "Hello!",
            usage=USAGE,
            fields={"service_tier": "default", "system_fingerprint": "fp_50906f2aac"},
        ),
        headers=KEY,
        sent={"model": "gpt-4o-mini", "stream": True, "stream_options": {"include_usage": True}},
    ),
    Replay(
        "openai-calls-in-parallel",
        ENTRY,
        events(
            said(0, role="assistant", content=None),
            *[
                said(1, tool_calls=[part(index, "", id=f"call_{index}", name="get_weather")])
                if piece is None
                else said(2, tool_calls=[part(index, piece)])
                for index, city in enumerate(("Paris", "Rome"))
                for piece in (None, '{"ci', 'ty":"', city, '"}')
            ],
            said(3, finish="tool_calls"),
            *COUNTED,
        ),
        Want(calls=(PARIS, ROME), finish="tool_calls", usage=USAGE),
        asked={**WEATHER, "parallel_tool_calls": True},
        sent={**WEATHER, "parallel_tool_calls": True},
    ),
    Replay(
        "openai-refuses-to-answer",
        ENTRY,
        events(
            said(0, role="assistant", content="", refusal=None),
            said(1, refusal="I can't help with that."),
            said(2, finish="stop"),
        ),
        Want(fields={"refusal": "I can't help with that."}),
    ),
    Replay(
        "openai-cites",
        ENTRY,
        events(
            said(0, role="assistant", content="It rains."),
            said(1, annotations=[{"type": "url_citation", "url_citation": {"url": "https://a.example", "title": "A"}}]),
            said(2, finish="stop"),
        ),
        Want(
            "It rains.",
            fields={
                "annotations": [{"type": "url_citation", "url_citation": {"url": "https://a.example", "title": "A"}}]
            },
        ),
    ),
    Replay(
        "openai-context",
        ENTRY,
        refusal(
            400,
            {
                "error": {
                    "message": TOO_LONG,
                    "type": "invalid_request_error",
                    "param": "messages",
                    "code": "context_length_exceeded",
                }
            },
        ),
        Want(
            status=400,
            error={
                "code": "context_length_exceeded",
                "param": "messages",
                "type": "invalid_request_error",
                "message": "maximum context length is 128000",
            },
        ),
    ),
    Replay(
        "openai-quota",
        ENTRY,
        refusal(
            429,
            {
                "error": {
                    "message": "You exceeded your current quota, please check your plan and billing details.",
                    "type": "insufficient_quota",
                    "param": None,
                    "code": "insufficient_quota",
                }
            },
        ),
        Want(status=429, error={"code": "insufficient_quota", "message": "exceeded your current quota"}),
    ),
    Replay(
        "openai-error-in-a-stream",
        ENTRY,
        events(
            said(0, role="assistant", content="Hel"),
            {"error": {"message": "The server had an error", "type": "server_error", "param": None, "code": None}},
            done=False,
        ),
        Want("Hel", status=502, error={"message": "The server had an error"}),
    ),
]
