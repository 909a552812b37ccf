"""Gemini's OpenAI-compatible endpoint: calls without an index, with signatures, and errors in a list."""

from tests.replays.replay import PARIS, ROME, WEATHER, Json, Replay, Want, events, refusal

ENTRY = "gemini-2.0-flash"
USAGE = {"completion_tokens": 12, "prompt_tokens": 8, "total_tokens": 95}
"""The total counts the thoughts too, which the other two do not."""


def said(*, finish: str | None = None, **delta: object) -> Json:
    choice: Json = {"delta": {"role": "assistant", **delta}, "index": 0}
    if finish is not None:
        choice["finish_reason"] = finish
    return {
        "choices": [choice],
        "created": 1764000000,
        "id": "qPwnaZ7rNOeSkdUP",
        "model": "gemini-2.0-flash",
        "object": "chat.completion.chunk",
        "usage": USAGE,
    }


def call(city: str, **more: object) -> Json:
    function = {"arguments": f'{{"city":"{city}"}}', "name": "get_weather"}
    return {**more, "function": function, "id": f"function-call-{city}", "type": "function"}


SIGNED = {"extra_content": {"google": {"thought_signature": "EjQKMgEMOdbHJChLX75Q"}}}

ANSWERED = {
    "messages": [
        {"role": "user", "content": "What is the weather?"},
        {"role": "assistant", "tool_calls": [call("Paris", **SIGNED), call("Rome")]},
        *[
            {"role": "tool", "tool_call_id": f"function-call-{city}", "name": "get_weather", "content": "Rain."}
            for city in ("Paris", "Rome")
        ],
    ]
}
"""A conversation that goes on after both calls."""


def failed(code: int, message: str, status: str, *details: Json) -> list[Json]:
    return [{"error": {"code": code, "message": message, "status": status, "details": list(details)}}]


REPLAYS = [
    Replay(
        "gemini",
        ENTRY,
        events(said(content="Hel"), said(content="lo!"), said(finish="stop")),
        Want("Hello!", usage=USAGE),
        headers={"authorization": "Bearer key-gemini"},
    ),
    Replay(
        "gemini-calls-in-one-chunk",
        ENTRY,
        events(said(tool_calls=[call("Paris", **SIGNED), call("Rome")], finish="stop")),
        Want(calls=(PARIS, ROME), finish="tool_calls", usage=USAGE, call_fields=SIGNED),
        asked=WEATHER,
    ),
    Replay(
        "gemini-calls-in-two-chunks",
        ENTRY,
        events(
            said(content="I look. ", extra_content={"google": {"thought": True}}),
            said(tool_calls=[call("Paris", **SIGNED)]),
            said(tool_calls=[call("Rome")], finish="tool_calls"),
        ),
        Want(
            "I look. ",
            calls=(PARIS, ROME),
            finish="tool_calls",
            fields={"extra_content": {"google": {"thought": True}}},
            call_fields=SIGNED,
        ),
        asked=WEATHER,
    ),
    Replay(
        "gemini-calls-with-the-same-index",
        ENTRY,
        events(said(tool_calls=[call("Paris", index=0)]), said(tool_calls=[call("Rome", index=0)], finish="stop")),
        Want(calls=(PARIS, ROME), finish="tool_calls"),
        asked=WEATHER,
    ),
    Replay(
        "gemini-gets-its-signatures-back",
        ENTRY,
        events(said(content="Rain."), said(finish="stop")),
        Want("Rain."),
        asked={**WEATHER, **ANSWERED},
        sent={**WEATHER, **ANSWERED},
    ),
    Replay(
        "gemini-reaches-its-limit",
        ENTRY,
        events(said(content="Half a"), said(finish="MAX_TOKENS")),
        Want("Half a", finish="length"),
    ),
    Replay(
        "gemini-stops-for-safety",
        ENTRY,
        events(said(content="Half a"), said(finish="SAFETY")),
        Want("Half a", finish="content_filter"),
    ),
    Replay(
        "gemini-refuses-a-value",
        ENTRY,
        refusal(400, failed(400, "Function call is missing a thought_signature.", "INVALID_ARGUMENT")),
        Want(status=400, error={"message": "missing a thought_signature", "code": "INVALID_ARGUMENT"}),
    ),
    Replay(
        "gemini-is-over-its-rate",
        ENTRY,
        refusal(
            429,
            failed(
                429,
                "Resource has been exhausted (e.g. check quota).",
                "RESOURCE_EXHAUSTED",
                {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "7s"},
            ),
        ),
        Want(status=429, error={"message": "Resource has been exhausted"}),
    ),
]
