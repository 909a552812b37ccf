"""The error that ends a reply, for what went wrong with its model.

::

    code                    retryable  when
    model_unreachable       yes        no connection to the model
    model_rate_limited      yes        429, 498 (with Retry-After, where the model gives one)
    model_failed            yes        5xx, 424, 499, an error inside the stream, or one of a client that is not ours
    model_timeout           yes        408, 504; the model's client gave up waiting
    model_stream_broken     yes        the connection broke or the stream ended once the request was sent; the answer is
                                       not what the model's API sends, is not HTTP, exceeds a limit, or is a redirect
                                       that is not followed
    model_unauthorized      no         401, 403: the worker's key is refused
    model_quota_exhausted   no         402, and codes such as insufficient_quota: the worker's account is used up
    model_not_found         no         404: the provider has no such model
    model_rejected_request  no         any other 4xx (409 and 425: yes), and codes such as context_length_exceeded: the
                                       request itself is at fault
    agent_failed            varies     an agent's own code, a tool or a team failed, or the agent took too long
    unsupported_request     no         the model's client cannot do what the request asks for
    deadline                yes        the request's own deadline passed
    internal_error          no         anything else: a defect, logged with its place

Decided by type, status and code, never by text, so that it holds for every provider's SDK. What a provider says in a
stream has the status that its code or type stands for.
"""

import json
from collections.abc import Callable, Mapping

import httpx2
import openai
import orjson
import pydantic
from autogen_core.models import RequestUsage

from protos import chat_pb2 as pb
from worker.contract import refusals
from worker.contract.causes import CLOSED, broke, causes, in_words
from worker.contract.errors import (
    AgentFailed,
    BadAnswer,
    ClientFailed,
    ModelReported,
    ProviderRefused,
    StreamBroken,
    Unsupported,
)
from worker.contract.masking import mask as mask_keys
from worker.contract.utf8 import clean

NO_CHUNKS = "the model's stream holds something else than chunks"

MESSAGE_LIMIT = 2000
"""Characters of a provider's message that are passed on."""

REASON_LIMIT = 300
"""Characters of a reason in the log."""

KEY = frozenset(refusals.STATUSES[401].split())
CONTENT = frozenset({"context_length_exceeded", "content_filter", "content_policy_violation"})
"""Codes that tell more than the status that they come with: 400 for a key, 429 for a quota, 500 for a content."""

FAILED = (424, 499)
"""Statuses below 500 by which servers tell that they failed: Hugging Face's, and those that gave a request up."""

Mask = Callable[[str], str]


def failure(error: Exception, started: bool, mask: Mask = mask_keys) -> pb.Error:
    """The terminal error for ``error``; ``started`` says whether the model had begun to answer.

    ``mask`` takes the keys out of what a provider says.
    """
    if isinstance(error, ClientFailed) and isinstance(error.__cause__, Exception):
        found = failure(error.__cause__, started, mask)
        if found.code != "internal_error":
            return found
        return _error("model_failed", f"the model's client failed ({type(error.__cause__).__name__})", retryable=True)
    if (refused := _refused(error)) is not None:
        return _refusal(refused, mask)
    # An SDK's error for any connection says less than what it was raised from.
    for cause in sorted(causes(error), key=lambda cause: not isinstance(cause, httpx2.RemoteProtocolError)):
        known = _known(cause, started)
        if known is not None:
            known.message = mask(known.message)  # it can quote how an answer begins
            return known
    return _error("internal_error", f"the worker failed ({type(error).__name__})")


def code(error: Exception) -> str:
    """The code that it ends a reply with. Raises nothing: a client's or an agent's exception may be anything."""
    try:
        return failure(error, started=False).code
    except Exception:
        return "internal_error"


def reason(error: Exception, mask: Mask = mask_keys) -> str:
    """Why, for the log: the provider's words, or what is wrong with the connection; nothing that quotes a prompt."""
    if isinstance(error, ClientFailed) and isinstance(error.__cause__, Exception):
        return reason(error.__cause__, mask)
    if (refused := _refused(error)) is not None:
        status = f"HTTP {refused.status}" if refused.status else "no HTTP status"
        words = [status, refused.code or refused.type, refused.message]
        text = ": ".join(filter(None, words))
    else:
        own = next((cause for cause in causes(error) if isinstance(cause, BadAnswer | StreamBroken)), None)
        text = str(own) if own is not None else in_words(error)
    text = mask(text)
    return clean(text.encode("unicode_escape").decode() if not text.isprintable() else text)[:REASON_LIMIT]


def _known(error: BaseException, started: bool) -> pb.Error | None:
    match error:
        case StreamBroken() | httpx2.RemoteProtocolError() | json.JSONDecodeError() | pydantic.ValidationError():
            return _broken(error)
        case httpx2.ConnectTimeout():
            return _error("model_unreachable", _with("the model cannot be reached", in_words(error)), retryable=True)
        case openai.APITimeoutError() if isinstance(error.__cause__, httpx2.ConnectTimeout):
            return None
        case openai.APITimeoutError() | TimeoutError() | httpx2.TimeoutException():
            return _error("model_timeout", _with("the model took too long to answer", in_words(error)), retryable=True)
        case openai.APIConnectionError() | OSError() | httpx2.TransportError():
            words = in_words(error)
            if started or broke(error):
                words = "" if words == CLOSED else words
                return _error("model_stream_broken", _with("the connection to the model broke", words), retryable=True)
            return _error("model_unreachable", _with("the model cannot be reached", words), retryable=True)
        case AgentFailed():
            return _error("agent_failed", str(error)[:MESSAGE_LIMIT], retryable=error.retryable)
        case Unsupported():
            return _error("unsupported_request", str(error))
        case _:
            return None


def deadline() -> pb.Error:
    return _error("deadline", "the request's deadline passed", retryable=True)


def usage(value: RequestUsage) -> pb.Usage:
    return pb.Usage(prompt_tokens=_count(value.prompt_tokens), completion_tokens=_count(value.completion_tokens))


def _count(value: int) -> int:
    return min(max(0, value), 2**53)


def _refused(error: Exception) -> ProviderRefused | None:
    """What a provider said, whichever client raised it; None if no provider said anything."""
    if isinstance(error, ProviderRefused):
        return error
    if isinstance(error, ModelReported):
        return refusals.read(error.body)
    status = getattr(error, "status_code", None)
    if not isinstance(status, int) and type(error) is not openai.APIError:
        return None
    response = getattr(error, "response", None)
    headers = getattr(response, "headers", None)
    body: object = getattr(error, "body", None)
    if isinstance(response, httpx2.Response) and response.is_closed and response.content:
        body = refusals.content(response.content)  # SDKs keep a part
    elif body is None and not isinstance(error, openai.APIError):
        texts = (getattr(error, name, None) for name in ("error", "message"))  # Ollama's and Azure's
        body = next((text for text in texts if isinstance(text, str)), None)
    return refusals.read(body, status, headers if isinstance(headers, Mapping) else None)


def _refusal(refused: ProviderRefused, mask: Mask) -> pb.Error:
    told_status = refused.status if (refused.status or 0) >= 400 else None
    status = told_status or refusals.status_of(refused.code, refused.type)
    if refused.code in KEY or refused.type in KEY:
        status = 401
    if refused.code in refusals.QUOTA or refused.type in refusals.QUOTA:
        code, what = "model_quota_exhausted", "the worker's account at the model's provider is used up"
    elif refused.code in CONTENT:
        code, what = "model_rejected_request", "the model rejected the request"
    else:
        code, what = _meaning(status)
    if told_status is not None:
        what += f" (HTTP {told_status})"
    told = mask(refused.message)[:MESSAGE_LIMIT]
    retryable = code in ("model_rate_limited", "model_failed", "model_timeout") or status in (409, 425)
    error = _error(code, _with(what, told), retryable=retryable)
    error.provider.status = status or 0
    error.provider.code = clean(mask(refused.code))
    error.provider.type = clean(mask(refused.type))
    error.provider.param = clean(mask(refused.param))
    if refused.extra:
        error.provider.extra = orjson.dumps(_masked(refused.extra, mask)).decode()
    if retryable and refused.retry_after is not None:
        error.retry_after.FromMilliseconds(int(refused.retry_after * 1000))
    return error


def _masked(value: object, mask: Mask) -> object:
    match value:
        case str():
            return clean(mask(value))
        case Mapping():
            return {clean(str(name)): _masked(item, mask) for name, item in value.items()}
        case [*items]:
            return [_masked(item, mask) for item in items]
        case _:
            return value


def _meaning(status: int | None) -> tuple[str, str]:
    match status:
        case None:
            return "model_failed", "the model reported an error"
        case 401:
            return "model_unauthorized", "the model's provider refused the worker's key"
        case 403:
            return "model_unauthorized", "the model's provider refused the worker's key or what it asks for"
        case 402:
            return "model_quota_exhausted", "the worker's account at the model's provider is used up"
        case 404:
            return "model_not_found", "the model's provider does not know the model"
        case 429 | 498:  # the latter is Groq's
            return "model_rate_limited", "the model's provider is over its rate limit"
        case 408 | 504 | 524:
            return "model_timeout", "the model's server gave up waiting"
        case _ if status >= 500 or status in FAILED:
            return "model_failed", "the model failed"
        case _:
            return "model_rejected_request", "the model rejected the request"


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


def _with(what: str, reason: str) -> str:
    return f"{what}: {reason}" if reason else what


def _error(code: str, message: str, *, retryable: bool = False, usage: pb.Usage | None = None) -> pb.Error:
    return pb.Error(code=code, message=clean(message), retryable=retryable, usage=usage)
