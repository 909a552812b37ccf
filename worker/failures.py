"""What can go wrong with a model, as the error that ends the stream.

::

    code                    retryable  when
    model_unreachable       yes        no connection to the model, or it broke before an answer
    model_rate_limited      yes        429 (with Retry-After, where the model gives one)
    model_failed            yes        5xx, or an error inside the stream
    model_timeout           yes        the model's client gave up waiting
    model_stream_broken     yes        the stream ended or broke in the middle
    model_unauthorized      no         401, 403: the worker's key is refused
    model_not_found         no         404: the provider has no such model
    model_rejected_request  no         any other 4xx: the request itself is at fault
    unsupported_request     no         the model's client cannot do what the request asks for
    deadline                yes        the request's own deadline passed
    internal_error          no         anything else: a defect, logged with its place

Known by type and status, never by text, so that it holds for every provider's SDK.
"""

from collections.abc import Mapping
from typing import Any

import httpx2
import openai
from autogen_core.models import RequestUsage

from protos import chat_pb2 as pb
from worker.completion import ModelReported, StreamBroken
from worker.conversation import Unsupported
from worker.surrogates import clean

MESSAGE_LIMIT = 500
"""Characters of a provider's message that are passed on."""


def failure(error: Exception, started: bool) -> pb.Error:
    """The terminal error for ``error``; ``started`` says whether the model had begun to answer."""
    status = _status(error)
    if status is not None:
        return _refusal(error, status)
    match error:
        case StreamBroken():
            return _error("model_stream_broken", str(error), retryable=True, usage=usage(error.usage))
        case openai.APITimeoutError() | TimeoutError() | httpx2.TimeoutException():
            return _error("model_timeout", "the model took too long to answer", retryable=True)
        case openai.APIConnectionError() | OSError() | httpx2.TransportError():
            if started:
                return _error("model_stream_broken", "the connection to the model broke", retryable=True)
            return _error("model_unreachable", "the model cannot be reached", retryable=True)
        case openai.APIError() | ModelReported():
            return _error("model_failed", f"the model reported an error: {_said(error)}", retryable=True)
        case Unsupported():
            return _error("unsupported_request", str(error))
        case ValueError() if type(error) is ValueError and not started:
            return _error("unsupported_request", str(error)[:MESSAGE_LIMIT])
        case _:
            return _error("internal_error", f"the worker failed ({type(error).__name__})")


def deadline() -> pb.Error:
    """The request's time is up."""
    return _error("deadline", "the request's deadline passed", retryable=True)


def usage(value: RequestUsage) -> pb.Usage:
    """Token counts as the contract has them."""
    return pb.Usage(prompt_tokens=_count(value.prompt_tokens), completion_tokens=_count(value.completion_tokens))


def _count(value: int) -> int:
    return min(max(0, value), 2**53)


def _refusal(error: Exception, status: int) -> pb.Error:
    if status in (401, 403):
        # The provider's own text can quote the key.
        return _error("model_unauthorized", f"the model's provider refused the worker's key (HTTP {status})")
    if status == 404:
        return _error("model_not_found", "the model's provider does not know the model (HTTP 404)")
    if status == 429:
        limited = _error("model_rate_limited", "the model's provider is over its rate limit (HTTP 429)", retryable=True)
        wait = _retry_after(error)
        if wait is not None:
            limited.retry_after.FromMilliseconds(int(wait * 1000))
        return limited
    if status == 408 or status >= 500:
        return _error("model_failed", f"the model failed (HTTP {status})", retryable=True)
    return _error("model_rejected_request", f"the model rejected the request (HTTP {status}): {_said(error)}")


def _status(error: Exception) -> int | None:
    status = getattr(error, "status_code", None)
    return status if isinstance(status, int) and status >= 400 else None


def _retry_after(error: Exception) -> float | None:
    headers: Mapping[str, str] = getattr(getattr(error, "response", None), "headers", {})
    try:
        seconds = float(headers.get("retry-after", ""))
    except ValueError:
        return None
    return min(seconds, 3600.0) if seconds >= 0 else None


def _said(error: Exception) -> str:
    """What the provider said, from the error's body where the SDK kept one."""
    body: Any = getattr(error, "body", None)
    if isinstance(body, dict):
        body = body.get("error", body)
    said = body.get("message") if isinstance(body, dict) else body
    return said[:MESSAGE_LIMIT] if isinstance(said, str) and said else "no reason given"


def _error(code: str, message: str, *, retryable: bool = False, usage: pb.Usage | None = None) -> pb.Error:
    return pb.Error(code=code, message=clean(message), retryable=retryable, usage=usage)
