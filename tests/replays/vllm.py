"""vLLM, and what its versions call reasoning."""

from tests.replays.replay import PARIS, WEATHER, Json, Replay, Want, events, refusal

ENTRY = "vllm"
MODEL = "Qwen/Qwen2.5-7B-Instruct"


def said(*, finish: str | None = None, stop: object = None, **delta: object) -> Json:
    choice = {
        "index": 0,
        "delta": delta,
        "logprobs": None,
        "finish_reason": finish,
        "stop_reason": stop,
        "token_ids": None,
    }
    head = {"id": "chatcmpl-8a1f", "object": "chat.completion.chunk", "created": 1764000000, "model": MODEL}
    return {**head, "choices": [choice]}


FIRST = {**said(role="assistant", content=""), "prompt_token_ids": None}
USAGE = {
    "prompt_tokens": 24,
    "total_tokens": 31,
    "completion_tokens": 7,
    "prompt_tokens_details": {"cached_tokens": 16},
}
COUNTED = {**said(), "choices": [], "usage": USAGE}
TOO_LONG = "This model's maximum context length is 32768 tokens. However, you requested 40000 tokens."

REPLAYS = [
    *[
        Replay(
            f"vllm-{name}",
            ENTRY,
            events(
                FIRST,
                said(**{name: "Let me "}),
                said(**{name: "see."}),
                said(content="42"),
                said(content="", finish="stop", stop=151643),
                COUNTED,
            ),
            Want("42", "Let me see.", usage=USAGE, fields={"stop_reason": 151643}),
            asked={"top_k": 20, "min_p": 0.05, "chat_template_kwargs": {"enable_thinking": True}},
            sent={"top_k": 20, "min_p": 0.05, "chat_template_kwargs": {"enable_thinking": True}},
        )
        for name in ("reasoning_content", "reasoning")
    ],
    Replay(
        "vllm-calls",
        ENTRY,
        events(
            FIRST,
            said(
                tool_calls=[
                    {
                        "id": "chatcmpl-tool-7c1",
                        "type": "function",
                        "index": 0,
                        "function": {"name": "get_weather", "arguments": ""},
                    }
                ]
            ),
            *[said(tool_calls=[{"index": 0, "function": {"arguments": piece}}]) for piece in ('{"city": ', '"Paris"}')],
            said(content="", finish="tool_calls"),
            COUNTED,
        ),
        Want(calls=(PARIS,), finish="tool_calls", usage=USAGE),
        asked=WEATHER,
    ),
    Replay(
        "vllm-refuses-flat",
        ENTRY,
        refusal(
            400,
            {"object": "error", "message": TOO_LONG, "type": "BadRequestError", "param": None, "code": 400},
        ),
        Want(status=400, error={"message": "maximum context length is 32768", "type": "BadRequestError"}),
    ),
    Replay(
        "vllm-refuses",
        ENTRY,
        refusal(
            404,
            {
                "error": {
                    "message": "It does not exist.",
                    "type": "NotFoundError",
                    "param": "model",
                    "code": 404,
                }
            },
        ),
        Want(status=404, error={"message": "does not exist", "param": "model"}),
    ),
    Replay(
        "vllm-error-in-a-stream",
        ENTRY,
        events(
            FIRST,
            said(content="Hel"),
            {"error": {"message": "EngineCore encountered an issue.", "type": "InternalServerError", "code": 500}},
        ),
        Want("Hel", status=502, error={"message": "EngineCore encountered an issue"}),
    ),
    Replay(
        "vllm-aborts",
        ENTRY,
        events(FIRST, said(content="Hel"), said(content="", finish="abort")),
        Want("Hel", status=502, error={"message": "abort"}),
    ),
]
