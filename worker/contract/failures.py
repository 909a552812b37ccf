"""The error that ends a reply, for what went wrong with its model.

::

    code                    retryable  when
    model_unreachable       yes        no connection to the model, or it broke before an answer
    model_rate_limited      yes        429 (with Retry-After, where the model gives one)
    model_failed            yes        5xx, an error inside the stream, or one of a client that is not ours
    model_timeout           yes        the model's client gave up waiting
    model_stream_broken     yes        the stream ended or broke in the middle; the answer is not what the model's API
                                       sends, is not HTTP, exceeds a limit, or is a redirect that is not followed
    model_unauthorized      no         401, 403: the worker's key is refused
    model_not_found         no         404: the provider has no such model
    model_rejected_request  no         any other 4xx: the request itself is at fault
    agent_failed            varies     an agent's own code, a tool or a team failed, or the agent took too long
    unsupported_request     no         the model's client cannot do what the request asks for
    deadline                yes        the request's own deadline passed
    internal_error          no         anything else: a defect, logged with its place

Decided by type and status, never by text, so that it holds for every provider's SDK.
"""

import json
from collections.abc import Mapping
from typing import Any

import httpx2
import openai
import pydantic
from autogen_core.models import RequestUsage

from protos import chat_pb2 as pb
from worker.contract.errors import AgentFailed, BadAnswer, ClientFailed, ModelReported, StreamBroken, Unsupported
from worker.contract.utf8 import clean

NO_CHUNKS = "the model's stream holds something else than chunks"

MESSAGE_LIMIT = 500
"""Characters of a provider's message that are passed on."""


def failure(error: Exception, started: bool) -> pb.Error:
    """The terminal error for ``error``; ``started`` says whether the model had begun to answer."""
    if isinstance(error, ClientFailed) and isinstance(error.__cause__, Exception):
        found = failure(error.__cause__, started)
        if found.code != "internal_error":
            return found
        return _error("model_failed", f"the model's client failed ({type(error.__cause__).__name__})", retryable=True)
    status = getattr(error, "status_code", None)
    if isinstance(status, int):
        return _refusal(error, status) if status >= 400 else _reported(error)
    # An SDK's error for any connection says less than what it was raised from.
    for cause in sorted(_causes(error), key=lambda cause: not isinstance(cause, httpx2.RemoteProtocolError)):
        known = _known(cause, started)
        if known is not None:
            return known
    return _error("internal_error", f"the worker failed ({type(error).__name__})")


def _causes(error: BaseException) -> list[BaseException]:
    """``error``, and what it was raised from."""
    causes = [error]
    while (cause := causes[-1].__cause__) is not None and cause not in causes:
        causes.append(cause)
    return causes


def _known(error: BaseException, started: bool) -> pb.Error | None:
    match error:
        case StreamBroken() | httpx2.RemoteProtocolError() | json.JSONDecodeError() | pydantic.ValidationError():
            return _broken(error)
        case openai.APITimeoutError() | TimeoutError() | httpx2.TimeoutException():
            return _error("model_timeout", "the model took too long to answer", retryable=True)
        case openai.APIConnectionError() | OSError() | httpx2.TransportError():
            if started:
                return _error("model_stream_broken", "the connection to the model broke", retryable=True)
            return _error("model_unreachable", "the model cannot be reached", retryable=True)
        case openai.APIError() | ModelReported():
            return _reported(error)
        case AgentFailed():
            return _error("agent_failed", str(error)[:MESSAGE_LIMIT], retryable=error.retryable)
        case Unsupported():
            return _error("unsupported_request", str(error))
        case ValueError() if type(error) is ValueError and not started:
            return _error("unsupported_request", str(error)[:MESSAGE_LIMIT])
        case _:
            return None


def deadline() -> pb.Error:
    return _error("deadline", "the request's deadline passed", retryable=True)


def usage(value: RequestUsage) -> pb.Usage:
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
    return _error("model_rejected_request", f"the model rejected the request (HTTP {status}): {_explanation(error)}")


def _broken(error: BaseException) -> pb.Error:
    match error:
        case StreamBroken():
            return _error("model_stream_broken", str(error), retryable=True, usage=usage(error.usage))
        case BadAnswer():
            return _error("model_stream_broken", str(error), retryable=True)
        case httpx2.RemoteProtocolError():
            return _error("model_stream_broken", "the model's server sent what is no HTTP/1.1", retryable=True)
        case _:
            return _error("model_stream_broken", NO_CHUNKS, retryable=True)


def _reported(error: BaseException) -> pb.Error:
    return _error("model_failed", f"the model reported an error: {_explanation(error)}", retryable=True)


def _retry_after(error: Exception) -> float | None:
    headers: Mapping[str, str] = getattr(getattr(error, "response", None), "headers", {})
    try:
        seconds = float(headers.get("retry-after", ""))
    except ValueError:
        return None
    return min(seconds, 3600.0) if seconds >= 0 else None


def _explanation(error: BaseException) -> str:
    """The provider's explanation, from the error's body where the SDK kept one."""
    body: Any = getattr(error, "body", None)
    if isinstance(body, dict):
        body = body.get("error", body)
    text = body.get("message") if isinstance(body, dict) else body
    return text[:MESSAGE_LIMIT] if isinstance(text, str) and text else "no reason given"


def _error(code: str, message: str, *, retryable: bool = False, usage: pb.Usage | None = None) -> pb.Error:
    return pb.Error(code=code, message=clean(message), retryable=retryable, usage=usage)
