"""OpenRouter: comments, two kinds of reasoning, two finish reasons, costs, and errors within a choice."""

from tests.replays.replay import Answer, Json, Replay, Want, events, refusal

ENTRY = "openrouter"
WAITING = b": OPENROUTER PROCESSING\n\n"
USAGE = {
    "prompt_tokens": 14,
    "completion_tokens": 163,
    "total_tokens": 177,
    "cost": 0.00012,
    "is_byok": False,
    "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
    "cost_details": {"upstream_inference_cost": None},
    "completion_tokens_details": {"reasoning_tokens": 120, "image_tokens": 0},
}
THOUGHT = [{"type": "reasoning.text", "text": "Let me see.", "format": "anthropic-claude-v1", "index": 0}]
SIGNATURE = [{"type": "reasoning.text", "signature": "EuYBCkQYAg==", "format": "anthropic-claude-v1", "index": 0}]

GOES_ON = {
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral"}}]},
        {"role": "assistant", "content": "42", "reasoning_details": [*THOUGHT, *SIGNATURE]},
        {"role": "user", "content": "Sure?"},
    ]
}


def said(*, finish: str | None = None, native: str | None = None, **delta: object) -> Json:
    choice = {
        "index": 0,
        "delta": {"role": "assistant", "content": "", **delta},
        "finish_reason": finish,
        "native_finish_reason": native,
        "logprobs": None,
    }
    return {
        "id": "gen-1764000000-Xy",
        "provider": "Anthropic",
        "model": "anthropic/claude-sonnet-4",
        "object": "chat.completion.chunk",
        "created": 1764000000,
        "choices": [choice],
    }


REPLAYS = [
    Replay(
        "openrouter",
        ENTRY,
        events(
            WAITING,
            WAITING,
            said(reasoning="Let me see.", reasoning_details=THOUGHT),
            said(reasoning=None, reasoning_details=SIGNATURE),
            said(content="42"),
            WAITING,
            said(finish="stop", native="end_turn"),
            {**said(), "usage": USAGE},
        ),
        Want(
            "42",
            "Let me see.",
            usage=USAGE,
            fields={"reasoning_details": THOUGHT, "provider": "Anthropic", "native_finish_reason": "end_turn"},
        ),
        asked={"provider": {"order": ["anthropic"]}, "reasoning": {"max_tokens": 2000}},
        sent={"provider": {"order": ["anthropic"]}, "reasoning": {"max_tokens": 2000}},
        headers={"authorization": "Bearer key-openrouter"},
    ),
    Replay(
        "openrouter-gets-its-reasoning-back",
        ENTRY,
        events(said(content="Yes."), said(finish="stop", native="end_turn")),
        Want("Yes."),
        asked=GOES_ON,
        sent=GOES_ON,
    ),
    Replay(
        "openrouter-error-within-a-choice",
        ENTRY,
        events(
            said(content="Hel"),
            {**said(finish="error"), "error": {"code": 502, "message": "Provider disconnected unexpectedly"}},
        ),
        Want("Hel", status=502, error={"message": "Provider disconnected"}),
    ),
    Replay(
        "openrouter-ends-in-an-error",
        ENTRY,
        events(said(content="Hel"), said(finish="error", native="SERVICE_ERROR")),
        Want("Hel", status=502, error={}),
    ),
    Replay(
        "openrouter-is-out-of-credits",
        ENTRY,
        refusal(402, {"error": {"message": "This request requires more credits.", "code": 402}, "user_id": "u"}),
        Want(status=402, error={"message": "requires more credits"}),
    ),
    Replay(
        "openrouter-passes-a-limit-on",
        ENTRY,
        refusal(
            429,
            {
                "error": {
                    "message": "Provider returned error",
                    "code": 429,
                    "metadata": {"raw": "temporarily rate-limited upstream", "provider_name": "Chutes"},
                }
            },
            retry_after="9",
        ),
        Want(status=429, error={"message": "temporarily rate-limited upstream"}),
    ),
    Replay(
        "openrouter-error-for-a-stream",
        ENTRY,
        Answer((b'{"error":{"message":"No endpoints found","code":404}}',), kind="application/json"),
        Want(status=404, error={"message": "No endpoints found"}),
    ),
]
