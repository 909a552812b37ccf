"""Everything but completion that can end a request: one tree of errors, each with its HTTP status and its codes.

::

    GatewayError           status  retryable  code
    ├── MalformedBody      400     no         invalid_json, incomplete_body, body_timeout (408), body_too_large (413),
    │                                         body_too_complex (422)
    ├── NotHttp            400     no         invalid_http, headers_too_large (431), not_allowed (405),
    │                                         http2_not_spoken (505), proxy_header_missing, invalid_proxy_header
    ├── InvalidField       422     no         invalid_field
    ├── UnknownModel       404     no         unknown_model
    ├── Unsupported        400     no         unsupported_parameter
    ├── Unauthorized       401     no         invalid_api_key
    ├── Forbidden          403     no         model_not_allowed
    ├── OverLimit          429     yes        rate_limit_exceeded
    ├── Busy               429     yes        queue_full, queue_timeout
    ├── Unavailable        503     yes        no_worker, draining, link_lost, overloaded
    ├── OutOfTime          504     varies     deadline, first_token_timeout, token_timeout, not_accepted
    ├── WorkerLost         502     yes        worker_lost, worker_silent, worker_stopped, lane_broken, credit_ignored,
    │                                            chunk_invalid
    └── ModelFailed        varies  varies     what the worker reports: worker/contract/failures.py

A provider's 400, 402, 404, 409, 410, 413, 415, 422, 425, 429, 451, 503 and 504 are passed on, 408 as 504, 498 as 429,
424 and 499 as 502, and 529 as 503. Other 4xx are 400; all else, and what concerns the worker's key, is 502.

The base itself has ``internal_error`` (500), and ``not_found`` and ``not_allowed`` for paths and methods.
"""

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import orjson

from protos import chat_pb2 as pb

EXTRA = 16 * 1024
"""Characters of a provider's further fields; workers send up to 4,000."""

RETRIED = (408, 409, 429)
"""Statuses below 500 that OpenAI's SDKs retry."""


class GatewayError(Exception):
    """Ends one request. Not changed once it is made.

    ``retry_after`` is in seconds, ``param`` names the field at fault, ``headers`` go with the answer, ``usage`` is what
    the request has used. ``provider`` is what the model's provider said, where it was the one that refused or failed.
    """

    status = 500
    retryable = False
    attempts = 0
    """How many attempts the request has had."""
    repeated = False
    """Whether a model was called more than once, so that it is not for the client to call it again."""
    provider: Mapping[str, Any] | None = None
    blames: ClassVar[frozenset[str]] = frozenset()
    """The codes that count against the circuit breaker of the worker. Of its models it tells by itself."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        status: int | None = None,
        retryable: bool | None = None,
        retry_after: float | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
        usage: pb.Usage | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = self.status if status is None else status
        self.retryable = self.retryable if retryable is None else retryable
        self.retry_after = retry_after
        self.param = param
        self.usage = usage
        self._headers = dict(headers or {})

    @property
    def blames_worker(self) -> bool:
        return self.code in self.blames

    @property
    def is_failure(self) -> bool:
        """Whether whoever runs the fleet should know of it; what a client did wrong is the client's affair."""
        return self.status >= 500

    @property
    def is_repeatable(self) -> bool:
        """Whether another attempt may help. A request that is at fault may only succeed later, as in a conflict."""
        return self.retryable and self.code != "model_rejected_request"

    def after(self, attempts: int, tokens: int, *, repeated: bool = False) -> Self:
        """This error as a request's end. The ``tokens`` that were received are its usage if the model did not count."""
        ended = type(self).__new__(type(self), self.message)
        ended.__dict__.update(self.__dict__, attempts=attempts, repeated=repeated)
        if tokens and self.usage is None:
            ended.usage = pb.Usage(completion_tokens=tokens)
        return ended.with_traceback(self.__traceback__)

    def body(self, request_id: str) -> dict[str, Any]:
        body: dict[str, Any] = {
            "code": self.code,
            "message": self.message,
            "retryable": self.retryable,
            "request_id": request_id,
        }
        if self.usage is not None:
            counted = {"completion_tokens": self.usage.completion_tokens}  # deltas: no one counted the prompt
            body["usage"] = usage(self.usage) if self.usage.prompt_tokens else counted
        if self.provider is not None:
            body["provider"] = self.provider
        return body

    def headers(self) -> dict[str, str]:
        """The answer's headers. ``Retry-After``, in whole seconds, is always there with a retryable 429 or 503.

        ``x-should-retry: false`` keeps OpenAI's SDKs from a request that cannot help, or that was repeated here.
        """
        headers = {**self._headers, "x-attempts": str(self.attempts)}
        wait = self.retry_after
        if wait is None and self.retryable and self.status in (429, 503):
            wait = 1.0
        if wait is not None:
            headers["retry-after"] = str(max(1, math.ceil(wait)))
            if wait < 1:
                headers["retry-after-ms"] = str(max(1, math.ceil(wait * 1000)))
        if (self.repeated or not self.retryable) and (self.status >= 500 or self.status in RETRIED):
            headers["x-should-retry"] = "false"
        return headers


class MalformedBody(GatewayError):
    status = 400


class NotHttp(GatewayError):
    status = 400


class InvalidField(GatewayError):
    status = 422

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__("invalid_field", message, param=param)


class UnknownModel(GatewayError):
    status = 404

    def __init__(self, model: str, known: list[str], endpoint: str = "") -> None:
        listed = ", ".join(known) or "none"
        message = f"model: {model[:100]!r} is not served here; these are: {listed}"
        if endpoint:
            message = f"model: {model[:100]!r} is not served at /v1/{endpoint}; these models are: {listed}"
        super().__init__("unknown_model", message, param="model")


class Unsupported(GatewayError):
    status = 400

    def __init__(self, param: str, message: str) -> None:
        super().__init__("unsupported_parameter", f"{param}: {message}", param=param)


class Unauthorized(GatewayError):
    status = 401

    def __init__(self) -> None:
        message = "the API key is missing or not valid: send it as Authorization: Bearer KEY"
        super().__init__("invalid_api_key", message, headers={"www-authenticate": "Bearer"})


class Forbidden(GatewayError):
    status = 403

    def __init__(self, model: str) -> None:
        super().__init__("model_not_allowed", f"model: this API key may not use {model[:100]!r}", param="model")


class OverLimit(GatewayError):
    status = 429
    retryable = True

    def __init__(self, limit: str, retry_after: float, headers: Mapping[str, str] | None = None) -> None:
        message = f"this API key is over its limit of {limit}"
        super().__init__("rate_limit_exceeded", message, retry_after=retry_after, headers=headers)


class Busy(GatewayError):
    status = 429
    retryable = True
    is_failure = True


class Unavailable(GatewayError):
    status = 503
    retryable = True


class OutOfTime(GatewayError):
    status = 504
    blames = frozenset({"not_accepted"})


class WorkerLost(GatewayError):
    status = 502
    retryable = True
    blames = frozenset({"worker_silent", "credit_ignored", "chunk_invalid"})


class ModelFailed(GatewayError):
    STATUS: ClassVar[dict[str, int]] = {
        "model_rate_limited": 429,
        "model_quota_exhausted": 429,
        "model_not_found": 404,
        "model_rejected_request": 400,
        "unsupported_request": 400,
        "model_timeout": 504,
        "deadline": 504,
        "worker_full": 503,
        "worker_draining": 503,
        "unknown_model": 404,
    }

    PASSED: ClassVar[dict[str, dict[int, int]]] = {
        "model_rejected_request": {status: status for status in (400, 409, 410, 413, 415, 422, 425, 451)},
        "model_quota_exhausted": {402: 402},
        "model_failed": {503: 503, 529: 503},
    }
    """By code: the provider's HTTP statuses that do not become the code's own."""

    CALLED: ClassVar = frozenset({"model_failed", "model_timeout", "model_stream_broken", "model_rate_limited"})
    """The codes that say that a model was called, and may answer another call."""

    def __init__(self, error: pb.Error) -> None:
        said = error.provider
        super().__init__(
            error.code or "unknown",
            error.message or "the worker gave no reason",
            status=self.PASSED.get(error.code, {}).get(said.status) or self.STATUS.get(error.code, 502),
            retryable=error.retryable,
            retry_after=error.retry_after.ToMilliseconds() / 1000 if error.HasField("retry_after") else None,
            usage=error.usage if error.HasField("usage") else None,
            param=said.param or None,
        )
        self.full = error.full
        """The model that has no room at the worker, if it is not the whole worker."""
        if error.HasField("provider"):
            self.provider = {
                **_fields(said.extra),
                "status": said.status or None,
                "code": said.code or None,
                "type": said.type or None,
                "param": said.param or None,
            }

    @property
    def is_failure(self) -> bool:
        return self.code not in ("model_rejected_request", "unsupported_request")

    @property
    def called_model(self) -> bool:
        return self.code in self.CALLED


def _fields(extra: str) -> dict[str, Any]:
    """The object in ``extra``; none if it is long, or too deep for the answer around it."""
    try:
        fields = orjson.loads(extra) if len(extra) <= EXTRA else {}
        orjson.dumps([[[[[[[[fields]]]]]]]])
    except (ValueError, TypeError):
        return {}
    return fields if isinstance(fields, dict) else {}


def usage(counts: pb.Usage) -> dict[str, Any]:
    """The three counts, and what else the model said. Its own total may count more than the two others."""
    try:
        given = orjson.loads(counts.extra) if counts.extra else {}
    except ValueError:
        given = {}
    given = given if isinstance(given, dict) else {}
    total = given.get("total_tokens")
    ours = {
        "prompt_tokens": counts.prompt_tokens,
        "completion_tokens": counts.completion_tokens,
        "total_tokens": total if type(total) is int else counts.prompt_tokens + counts.completion_tokens,
    }
    return given | ours
