"""How a model says that its reply has ended: in its own word, and in AutoGen's."""

from autogen_core.models import FinishReasons

FINISH_REASONS: dict[str, FinishReasons] = {
    **dict.fromkeys(["stop", "end_turn", "stop_sequence", "eos", "eos_token", "complete", "completed"], "stop"),
    **dict.fromkeys(["end_of_turn", "eosfound", "stopstringfound"], "stop"),
    **dict.fromkeys(["length", "max_tokens", "max_length", "max_output_tokens", "model_length"], "length"),
    **dict.fromkeys(["token_limit", "model_context_window_exceeded"], "length"),
    **dict.fromkeys(["maxpredictedtokensreached", "contextlengthreached"], "length"),
    **dict.fromkeys(["content_filter", "content_filtered", "safety", "image_safety", "recitation"], "content_filter"),
    **dict.fromkeys(["blocklist", "prohibited_content", "spii", "sensitive", "error_toxic"], "content_filter"),
    **dict.fromkeys(["refusal", "guardrail_intervened", "model_armor"], "content_filter"),
    **dict.fromkeys(["image_prohibited_content", "image_recitation"], "content_filter"),
    **dict.fromkeys(["tool_calls", "tool_call", "tool_use", "function_calls", "function_call"], "function_calls"),
    "toolcalls": "function_calls",
}
"""Models' finish reasons, in lower case, in AutoGen's words. Words in neither list are passed on."""

BAD = frozenset(
    {"error", "abort", "aborted", "cancelled", "canceled", "failed", "failure", "timeout", "network_error"}
    | {"model_error", "internal_error", "server_error", "load_error", "insufficient_system_resource"}
    | {"malformed_function_call", "malformed_response", "unexpected_tool_call", "too_many_tool_calls"}
    | {"malformed_tool_use", "malformed_model_output", "missing_thought_signature"}
)
"""Ends that leave the reply unfinished."""

NO_REASONS = frozenset({"null", "none"})
"""What some providers write as text where there is no reason yet."""

REASON_LIMIT = 100
"""Characters of a finish reason."""


def known_word(reason: str) -> str:
    """What the lists above may have: of Gemini's ``function_call_filter: MALFORMED_FUNCTION_CALL`` the last word."""
    return reason.lower().rpartition(":")[2].strip()
