"""What Claude's API says when it refuses a request or fails, before a stream or in it."""

from typing import Any

import anthropic

from worker.contract.errors import ProviderRefused

STATUSES = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "conflict_error": 409,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
"""The status of each type of error, which a stream does not say: it began with 200."""


def reported(body: Any, status: int | None = None, retry_after: float | None = None) -> ProviderRefused:
    """The error in ``body``: an event's data, or a response's, which an intermediary may have written."""
    error = body.get("error", body) if isinstance(body, dict) else body
    said = error if isinstance(error, dict) else {"message": error}
    kind, message = said.get("type"), said.get("message")
    details = said.get("details")
    code = details.get("error_code") if isinstance(details, dict) else None
    return ProviderRefused(
        message if isinstance(message, str) else "",
        status=status or STATUSES.get(str(kind)),
        code=code if isinstance(code, str) else "",
        type=kind if isinstance(kind, str) else "",
        retry_after=retry_after,
    )


def refused(error: anthropic.APIStatusError) -> ProviderRefused:
    """The SDK's error for a status."""
    return reported(error.body, error.status_code, _seconds(error.response.headers.get("retry-after", "")))


def _seconds(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
