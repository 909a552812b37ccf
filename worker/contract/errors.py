"""What a model, its server or its client can do wrong; :mod:`worker.contract.failures` says how each ends a reply.

::

    Unsupported (ValueError)                    the request asks for something that the model's client cannot pass on
    BadAnswer (httpx2.RemoteProtocolError)      the model's server exceeded a limit, or its answer cannot be used
    StreamBroken                                the model's stream is invalid, or ended early
    ModelReported                               the model reported an error inside its stream
    ProviderRefused                             the model's provider refused or failed, before or in a stream
    ClientFailed                                a client that is not ours raised; its ``__cause__`` is what it raised
    AgentFailed                                 an agent's own code, a tool or a team failed
"""

from collections.abc import Mapping
from typing import Any

import httpx2
from autogen_core.models import RequestUsage


class Unsupported(ValueError):
    """The request holds something that this worker cannot pass on; its text says what, for the user."""


class BadAnswer(httpx2.RemoteProtocolError):
    """A model's server exceeded a limit, or its answer cannot be used; its text is a sentence for the user."""


class StreamBroken(Exception):
    """The model's stream is invalid, or ended early. ``usage`` is what the stream had reported until then."""

    def __init__(self, message: str, usage: RequestUsage) -> None:
        super().__init__(message)
        self.usage = usage


class ModelReported(Exception):
    """The model reported an error inside its stream; ``body`` is that error as the model sent it."""

    def __init__(self, body: object) -> None:
        super().__init__("the model reported an error")
        self.body = body


class ProviderRefused(Exception):
    """What a model's provider said when it refused or failed, before or in a stream; its text is the provider's.

    ``status`` is its HTTP status, or the one that it names in a stream; ``code``, ``type`` and ``param`` are as in
    OpenAI's errors, ``retry_after`` is in seconds, and ``extra`` is what else its error holds.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str = "",
        type: str = "",  # noqa: A002
        param: str = "",
        retry_after: float | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.code = code
        self.type = type
        self.param = param
        self.retry_after = retry_after
        self.extra = extra or {}


class ClientFailed(Exception):
    """A client that is not ours raised its ``__cause__``."""


class AgentFailed(Exception):
    """An agent's own code, a tool or a team failed; its text is a sentence for the user."""

    def __init__(self, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.retryable = retryable
