"""Everything that can end a request but its own completion. One tree; nobody matches on message text.

::

    GatewayError           status  retryable  code
    ├── MalformedBody      400     no         invalid_json, incomplete_body, body_timeout (408)
    ├── NotHttp            400     no         invalid_http
    ├── NoTunnel           405     no         not_allowed
    ├── HeadersTooLarge    431     no         headers_too_large
    ├── InvalidField       422     no         invalid_field
    ├── TooComplex         422     no         body_too_complex
    ├── UnknownModel       404     no         unknown_model
    ├── Unsupported        400     no         unsupported_parameter
    ├── Unauthorized       401     no         invalid_api_key
    ├── Forbidden          403     no         model_not_allowed
    ├── OverLimit          429     yes        rate_limit_exceeded
    ├── BodyTooLarge       413     no         body_too_large
    ├── Busy               429     yes        queue_full, queue_timeout
    ├── Unavailable        503     yes        no_worker, draining, link_lost, overloaded
    ├── OutOfTime          504     varies     deadline, first_token_timeout, token_timeout, not_accepted
    ├── WorkerLost         502     yes        worker_lost, worker_silent, worker_stopped, lane_broken, credit_ignored,
    │                                            chunk_invalid
    ├── ClientStalled      (none)  yes        client_stalled
    └── ModelFailed        varies  varies     what the worker reports: worker/contract/failures.py
"""

import math
from typing import Any, ClassVar

from protos import chat_pb2 as pb


class GatewayError(Exception):
    """Ends one request. ``status`` is the HTTP status if nothing was sent yet; ``retry_after`` is in seconds."""

    status = 500
    retryable = False

    def __init__(self, code: str, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.retry_after = retry_after
        self.extra_headers: dict[str, str] = {}
        """What the answer says besides, such as the state of a key's limits."""
        self.param: str | None = None
        """The field at fault, where one is."""
        self.usage: pb.Usage | None = None

    @property
    def blames_worker(self) -> bool:
        """Whether the worker, or the model behind it, had better be left alone for a while."""
        return False

    def count(self, tokens: int) -> None:
        """Note how many pieces of the reply were received, unless the model has counted itself."""
        if tokens and self.usage is None:
            self.usage = pb.Usage(completion_tokens=tokens)

    def body(self, request_id: str) -> dict[str, Any]:
        """The error object that clients see; with the usage so far, where it is known."""
        body: dict[str, Any] = {
            "code": self.code,
            "message": self.message,
            "retryable": self.retryable,
            "request_id": request_id,
        }
        if self.usage is not None:
            body["usage"] = usage(self.usage)
        return body

    def headers(self) -> dict[str, str]:
        """``Retry-After`` in whole seconds: always with 429 and 503, else where it is known how long to wait."""
        wait = 1.0 if self.retry_after is None and self.status in (429, 503) else self.retry_after
        return self.extra_headers | ({} if wait is None else {"retry-after": str(max(1, math.ceil(wait)))})


class MalformedBody(GatewayError):
    """The body cannot be read as JSON."""

    status = 400

    def __init__(self, code: str, message: str, *, status: int = 400) -> None:
        super().__init__(code, message)
        self.status = status


class NotHttp(GatewayError):
    """What arrived is no HTTP request."""

    status = 400

    def __init__(self, message: str = "this is no valid HTTP request") -> None:
        super().__init__("invalid_http", message)


class NoTunnel(GatewayError):
    """A ``CONNECT`` request."""

    status = 405

    def __init__(self) -> None:
        super().__init__("not_allowed", "CONNECT: this server opens no tunnels")
        self.extra_headers = {"allow": "GET, HEAD, OPTIONS, POST"}


class HeadersTooLarge(GatewayError):
    """The headers are over the limit, or chunk sizes, chunk extensions and trailers, which count like headers."""

    status = 431

    def __init__(self, limit: int) -> None:
        super().__init__(
            "headers_too_large", f"headers, chunk sizes and trailers are larger than the {limit} bytes allowed here"
        )


class InvalidField(GatewayError):
    """The body is JSON, and one field of it is wrong; the message names it."""

    status = 422

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__("invalid_field", message)
        self.param = param


class TooComplex(GatewayError):
    """The body has too many values, or nests too deep; the message names the bound."""

    status = 422

    def __init__(self, message: str) -> None:
        super().__init__("body_too_complex", message)


class UnknownModel(GatewayError):
    """No worker serves a model of that name."""

    status = 404

    def __init__(self, model: str, known: list[str]) -> None:
        listed = ", ".join(known) or "none"
        super().__init__("unknown_model", f"model: {model[:100]!r} is not served here; these are: {listed}")
        self.param = "model"


class Unsupported(GatewayError):
    """The body asks by name for something that is not done here."""

    status = 400

    def __init__(self, param: str, message: str) -> None:
        super().__init__("unsupported_parameter", f"{param}: {message}")
        self.param = param


class Unauthorized(GatewayError):
    """No key, or one that is not known."""

    status = 401

    def __init__(self) -> None:
        super().__init__("invalid_api_key", "the API key is missing or not valid: send it as Authorization: Bearer KEY")

    def headers(self) -> dict[str, str]:
        """As HTTP wants it with 401."""
        return {"www-authenticate": "Bearer"}


class Forbidden(GatewayError):
    """A good key, but not for this."""

    status = 403

    def __init__(self, model: str) -> None:
        super().__init__("model_not_allowed", f"model: this API key may not use {model[:100]!r}")
        self.param = "model"


class OverLimit(GatewayError):
    """A good key, but it has used up what it may."""

    status = 429
    retryable = True

    def __init__(self, what: str, retry_after: float) -> None:
        super().__init__("rate_limit_exceeded", f"this API key is over its limit of {what}", retry_after=retry_after)


class BodyTooLarge(GatewayError):
    """The body is over the limit."""

    status = 413

    def __init__(self, limit: int) -> None:
        super().__init__("body_too_large", f"the body is larger than the {limit} bytes allowed here")


class Busy(GatewayError):
    """Every worker is at its capacity and the wait is over or cannot begin."""

    status = 429
    retryable = True


class Unavailable(GatewayError):
    """Nobody is there to answer: no worker, or this gateway is about to leave."""

    status = 503
    retryable = True


class OutOfTime(GatewayError):
    """One of the request's deadlines passed."""

    status = 504

    def __init__(self, code: str, message: str, *, retryable: bool) -> None:
        super().__init__(code, message)
        self.retryable = retryable

    @property
    def blames_worker(self) -> bool:
        """As in the base: it gave no sign of life, or its model no token."""
        return self.code in ("not_accepted", "first_token_timeout")


class WorkerLost(GatewayError):
    """The worker that ran the request is gone."""

    status = 502
    retryable = True

    @property
    def blames_worker(self) -> bool:
        """As in the base."""
        return self.code in ("worker_silent", "credit_ignored", "chunk_invalid")


class ClientStalled(GatewayError):
    """The client reads nothing any more."""

    retryable = True


class ModelFailed(GatewayError):
    """What a worker reported as the end of a chat."""

    STATUS: ClassVar[dict[str, int]] = {
        "model_rate_limited": 429,
        "model_rejected_request": 400,
        "unsupported_request": 400,
        "model_timeout": 504,
        "deadline": 504,
        "worker_full": 503,
        "worker_draining": 503,
        "unknown_model": 404,
    }

    FAULTS: ClassVar[frozenset[str]] = frozenset(
        {
            "model_unreachable",
            "model_failed",
            "model_timeout",
            "model_stream_broken",
            "model_rate_limited",
            "model_unauthorized",
            "model_not_found",
            "internal_error",
        }
    )

    def __init__(self, error: pb.Error) -> None:
        wait = error.retry_after.ToMilliseconds() / 1000 if error.HasField("retry_after") else None
        super().__init__(error.code or "unknown", error.message or "the worker gave no reason", retry_after=wait)
        self.status = self.STATUS.get(error.code, 502)
        self.retryable = error.retryable
        self._blames_worker = error.code in self.FAULTS
        if error.HasField("usage"):
            self.usage = error.usage

    @property
    def blames_worker(self) -> bool:
        """As in the base: true for everything that is not the request's own fault."""
        return self._blames_worker


def usage(counts: pb.Usage) -> dict[str, int]:
    """Token counts as clients see them."""
    return {
        "prompt_tokens": counts.prompt_tokens,
        "completion_tokens": counts.completion_tokens,
        "total_tokens": counts.prompt_tokens + counts.completion_tokens,
    }
