"""What a model's provider says when it refuses or fails, in whatever shape, as one :class:`ProviderRefused`."""

import email.utils
import json
import re
import time
from collections.abc import Mapping
from html import unescape
from typing import Any

import orjson

from worker.contract.errors import ProviderRefused

TEXT = 8000
"""Characters that are read of a provider's text; more of a page are skipped, not searched."""

PARTS = 5
"""Errors of a list that are told."""

NAME = 200
"""Characters of a code, a type or a parameter's name."""

DEPTH = 8
"""Levels of JSON, also within text, at which a message is looked for."""

EXTRA = 4000
"""Bytes of further fields, as JSON; larger ones are left out."""

LONGEST = 86_400.0
"""Seconds of a Retry-After."""

_MESSAGE = (
    *("message", "msg", "error_message", "error_msg", "errorMessage", "error_description", "Message"),
    *("description", "reason", "text", "faultstring", "fault", "title"),
)
_NO_CODE = frozenset({"error", "fail", "failed", "failure"})
"""Values of a field ``status`` that tell nothing."""

_SECONDS = re.compile(r"\s*\+?(\d+(?:\.\d*)?)\s*(?:s|sec|seconds)?\s*(?:[,;].*)?", re.IGNORECASE | re.ASCII)
_EVENT = re.compile(r"^data:[ \t]*([{\[].*)", re.MULTILINE)
_KNOWN = frozenset({"error", "errors", "detail", "message", "code", "type", "param", "status", "object"})

STATUSES = {
    400: "invalid_request_error invalid_prompt context_length_exceeded content_filter content_policy_violation "
    "string_above_max_length unsupported_parameter unsupported_value bad_request badrequesterror validation_error "
    "invalid_argument failed_precondition out_of_range invalid_value exceed_context_size_error",
    401: "authentication_error invalid_api_key unauthenticated unauthorized incorrect_api_key "
    "api_key_invalid invalidapikey",
    402: "billing_error insufficient_credits payment_required insufficient_balance",
    403: "permission_error permission_denied forbidden unsupported_country_region_territory",
    404: "not_found_error not_found model_not_found notfounderror deployment_not_found",
    413: "request_too_large",
    429: "rate_limit_exceeded rate_limit_error rate_limited rate_limit too_many_requests resource_exhausted "
    "throttling_error throttlingexception throttling requests tokens ratelimiterror "
    "insufficient_quota billing_hard_limit_reached billing_not_active quota_exceeded",
    500: "api_error server_error internal_error internal internal_server_error internalservererror",
    503: "overloaded_error overloaded server_overloaded engine_overloaded unavailable service_unavailable "
    "service_unavailable_error model_overloaded slow_down unavailable_error server_is_overloaded",
    504: "timeout_error timeout deadline_exceeded gateway_timeout",
}
"""The HTTP status that a provider's code, type or status stands for where it gives no number: in a stream."""

QUOTA = frozenset(STATUSES[402].split()) | frozenset(STATUSES[429].split()[-4:])
"""Words for an account that is used up."""

_STATUS_OF = {word: status for status, words in STATUSES.items() for word in words.split()}


def read(body: object, status: int | None = None, headers: Mapping[str, str] | None = None) -> ProviderRefused:
    """The error in ``body``: JSON that was decoded, or text. Without an HTTP status of an error, the body's own."""
    error, outer = _unwrap(body)
    code, state = _name(error, outer, "code"), _name(error, outer, "status")
    kind = _name(error, outer, "type") or _name(error, outer, "error_type")
    if code.isdecimal():
        status, code = status if _is_error(status) else int(code[:4]), ""
    if not _is_error(status):
        status = _number(error, outer)
    if not code and (inner := _quoted(error)):
        code, kind = _name(inner, {}, "code"), kind or _name(inner, {}, "type")
        code = "" if code.isdecimal() else code
    extra = {name: value for name, value in error.items() if name not in _KNOWN}
    return ProviderRefused(
        _message(body) or _shown(extra),
        status=status if _is_error(status) else None,
        code=code or _detail(error, "reason").lower() or ("" if state.isdecimal() or state in _NO_CODE else state),
        type=kind,
        param=_name(error, outer, "param"),
        retry_after=retry_after(headers or {}, _detail(error, "retryDelay").removesuffix("s")),
        extra=extra if extra and _size(extra) <= EXTRA else {},
    )


def _quoted(error: Mapping[str, Any]) -> dict[str, Any]:
    """The error that another provider passes on as text."""
    metadata = error.get("metadata")
    for text in (metadata.get("raw") if isinstance(metadata, dict) else None, error.get("message")):
        if isinstance(text, str) and text[:1] == "{" and isinstance(inner := content(text[:TEXT].encode()), dict):
            return _unwrap(inner)[0]
    return {}


def _shown(fields: Mapping[str, Any]) -> str:
    """An error without a message is told as it is."""
    return json.dumps(fields, ensure_ascii=False)[:TEXT] if fields else ""


def status_of(*words: str) -> int | None:
    """The HTTP status that the first known of a provider's words stands for."""
    return next((_STATUS_OF[word] for word in map(str.lower, words) if word in _STATUS_OF), None)


def retry_after(headers: Mapping[str, str], delay: str = "") -> float | None:
    """Seconds to wait before another request, as a provider's headers or its error (``delay``) say.

    ``x-ratelimit-reset-…`` are not read: they tell when a whole window is free again, not when the next request is.
    """
    ms = headers.get("retry-after-ms") or headers.get("x-ms-retry-after-ms")
    for text, scale in ((ms, 1000), (headers.get("retry-after"), 1), (delay, 1)):
        seconds = _seconds(text)
        if seconds is not None:
            return min(max(0.0, seconds / scale), LONGEST)
    return None


def _seconds(text: str | None) -> float | None:
    """Seconds, also with a fraction or a unit, or until a date; the first of several. None for anything else."""
    if not text:
        return None
    if number := _SECONDS.fullmatch(text):
        return float(number[1])
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError, OSError):
        return None


def _detail(error: Mapping[str, Any], name: str) -> str:
    """Google's ``reason``, or ``retryDelay`` (a number and ``s``), among an error's details."""
    details = error.get("details")
    for detail in details[:PARTS] if isinstance(details, list) else ():
        if isinstance(detail, dict) and isinstance(text := detail.get(name), str):
            return text[:NAME]
    return ""


def content(data: bytes) -> object:
    """An error response's body, decoded if it is JSON, also in an event."""
    text = data.decode(json.detect_encoding(data), "replace")
    event = _EVENT.search(text)
    for json_text in (text, event[1] if event else ""):
        try:
            return json.loads(json_text, strict=False)
        except (ValueError, RecursionError):
            pass
    return text[: 4 * TEXT]


def _unwrap(body: object) -> tuple[dict[str, Any], dict[str, Any]]:
    """The object that describes the error, and the one around it."""
    outer: dict[str, Any] = {}
    for _ in range(4):
        if isinstance(body, list) and body:
            body = body[0]
        elif isinstance(body, dict):
            inner = next((body[key] for key in ("error", "errors", "detail") if _describes(body.get(key))), None)
            if inner is None:
                return body, outer
            outer, body = body, inner
        else:
            break
    return (body, outer) if isinstance(body, dict) else ({}, outer)


def _describes(value: object) -> bool:
    if isinstance(value, list) and value:
        value = value[0]
    return isinstance(value, dict) and "loc" not in value  # a field at fault, of which FastAPI lists all


def _name(error: dict[str, Any], outer: dict[str, Any], field: str) -> str:
    value = error.get(field, outer.get(field))
    return str(value)[:NAME] if isinstance(value, str | int) and not isinstance(value, bool) else ""


def _number(error: dict[str, Any], outer: dict[str, Any]) -> int | None:
    for place in (error, outer):
        for field in ("status", "status_code", "http_status", "http_code", "statusCode"):
            value = place.get(field)
            if isinstance(value, int | str) and str(value).isdecimal() and _is_error(int(str(value)[:4])):
                return int(value)
    return None


def _is_error(status: int | None) -> bool:
    return status is not None and 400 <= status <= 599


def _size(value: object) -> int:
    try:
        return len(orjson.dumps(value))
    except (TypeError, ValueError):
        return EXTRA + 1


def _message(body: object, depth: int = 0) -> str:
    """The text for a reader: all of it, in one line."""
    if depth > DEPTH:
        return ""
    match body:
        case str():
            return _text(body, depth)
        case [*items]:
            return "; ".join(filter(None, (_message(item, depth + 1) for item in items[:PARTS])))
        case {"loc": [*where], "msg": str(text)}:  # FastAPI's, and so vLLM's and others'
            return f"{'.'.join(str(part)[:NAME] for part in where[:20])}: {text}"
        case {"metadata": {"raw": str(raw)}, "message": str(text)} if raw:  # OpenRouter's, around a provider's own
            return f"{text}: {_message(raw, depth + 1)}"
        case dict():
            fields = (body[field] for field in ("error", "detail", "errors", *_MESSAGE) if body.get(field))
            texts = filter(None, (_message(field, depth + 1) for field in fields))
            text = next(texts, "")
            if isinstance(body.get("error"), str) and (more := next(texts, text)) != text:
                return f"{text}: {more}"  # the former may be no more than a kind
            return text
    return ""


def _text(text: str, depth: int) -> str:
    text = text[:TEXT].strip()
    if text[:1] in ("{", "["):
        try:
            return _message(json.loads(text), depth + 1) or text
        except (ValueError, RecursionError):
            return text
    if text[:1] == "<" and (title := re.search(r"<title[^<>]*>([^<]*)", text, re.IGNORECASE)):
        text = title[1]
    elif text[:1] == "<":
        text = re.sub(r"<[^<>]*>", " ", text)
    return " ".join(unescape(text).split())
