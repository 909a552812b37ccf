"""How a model says that its reply has ended: in its own word, and in AutoGen's."""

from autogen_core.models import FinishReasons

FINISH_REASONS: dict[str, FinishReasons] = {
    **dict.fromkeys(["stop", "end_turn", "stop_sequence", "eos", "eos_token", "complete", "completed"], "stop"),
    **dict.fromkeys(["length", "max_tokens", "max_length", "max_output_tokens", "model_length"], "length"),
    **dict.fromkeys(["token_limit", "model_context_window_exceeded"], "length"),
    **dict.fromkeys(["content_filter", "content_filtered", "safety", "image_safety", "recitation"], "content_filter"),
    **dict.fromkeys(["blocklist", "prohibited_content", "spii", "sensitive", "error_toxic"], "content_filter"),
    **dict.fromkeys(["refusal", "guardrail_intervened"], "content_filter"),
    **dict.fromkeys(["tool_calls", "tool_call", "tool_use", "function_calls", "function_call"], "function_calls"),
}
"""Models' finish reasons, in lower case, in AutoGen's words. Words in neither list are passed on."""

BAD = frozenset(
    {"error", "abort", "aborted", "cancelled", "canceled", "failed", "failure", "timeout", "network_error"}
    | {"model_error", "internal_error", "server_error", "load_error", "insufficient_system_resource"}
    | {"malformed_function_call", "malformed_response", "unexpected_tool_call"}
)
"""Ends that leave the reply unfinished."""

NO_REASONS = frozenset({"null", "none"})
"""What some providers write as text where there is no reason yet."""

REASON_LIMIT = 100
"""Characters of a finish reason."""
