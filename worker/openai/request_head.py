"""Requests made after the likeness of one that the OpenAI SDK made: to build and send one through it costs 1 ms of CPU.

Only the body differs from one request of a client to the next, as long as the same arguments are given and nothing in
its headers is made anew for each. The first request of each kind goes through the SDK; if its body is what we would
have sent and its headers are known, the next ones are sent with its headers.
"""

from collections.abc import Mapping
from contextlib import AsyncExitStack
from contextvars import ContextVar
from typing import Any, NamedTuple

import httpx2
import openai
import orjson
from openai._utils._json import openapi_dumps

from worker.openai.request import Request
from worker.wire.answers import Bounded
from worker.wire.connection import Transport, head_of

KINDS = 32
"""Kinds of requests that are kept; a kind is a set of arguments' names."""

_KNOWN = frozenset(
    {
        "accept",
        "accept-encoding",
        "authorization",
        "connection",
        "content-length",
        "content-type",
        "host",
        "openai-organization",
        "openai-project",
        "user-agent",
    }
)
_KNOWN_PREFIX = "x-stainless-"
_OTHER_KEYS = ("_api_key_provider", "workload_identity", "_provider_runtime")
"""Where the SDK's client keeps what else than ``api_key`` its authorization can come from."""
_NOT_BODY = frozenset({"extra_headers", "extra_query", "extra_body", "timeout"})

Json = dict[str, Any]


class _Kind(NamedTuple):
    request: httpx2.Request
    head: bytes
    """Request line and headers without the body's length."""
    key: str
    """The client's key when it was learned."""


class PreparedRequests:
    """What one client has learned. ``own_headers`` are those that its configuration adds to every request."""

    def __init__(self, client: Any, own_headers: Mapping[str, str] | None) -> None:
        self._client = client
        self._known = _KNOWN | {name.lower() for name in own_headers or ()}
        self._kinds: dict[frozenset[str], _Kind] = {}
        transport = getattr(client._client, "_transport", None)
        # Azure's client writes addresses of its own; keys may be tokens that end; retries are the SDK's part.
        lasting = all(getattr(client, name, None) is None for name in _OTHER_KEYS)
        plain = type(client) is openai.AsyncOpenAI and client.max_retries == 0 and lasting
        ours = isinstance(transport, Bounded) and isinstance(transport.inner, Transport)
        self._transport: Bounded | None = transport if plain and ours else None
        client._client.event_hooks["request"].append(_on_request)

    async def send(self, request: Request) -> httpx2.Response | None:
        """Send a request like one before; None where none is known.

        The response's body is unread and must be closed, as :meth:`Bounded.handle_async_request` gives it. Raises the
        SDK's errors for connections and statuses.
        """
        kind = self._kinds.get(frozenset(request.arguments)) if self._transport is not None else None
        if kind is None or self._transport is None:
            return None
        if kind.key != self._client.api_key:
            self._kinds.clear()
            return None
        try:
            body = orjson.dumps(_body(request.arguments) | request.large)
        except orjson.JSONEncodeError:
            return None  # what the SDK can write, it shall
        try:
            return await self._ask(self._transport, kind, body)
        except httpx2.TimeoutException as error:
            raise openai.APITimeoutError(kind.request) from error
        except httpx2.TransportError as error:
            raise openai.APIConnectionError(request=kind.request) from error

    async def send_by_sdk(self, request: Request, stack: AsyncExitStack) -> httpx2.Response:
        """Send a request through the SDK, and learn from it; its response is closed with ``stack``.

        The SDK sees the arguments only. What is large is put into the body that it has made.
        """
        completions: Any = self._client.chat.completions.with_streaming_response
        part = _LargePart(request.large)
        token = _LARGE_PART.set(part)
        try:
            create = completions.create(messages=[], stream=True, **request.arguments)
            answer: Any = await stack.enter_async_context(create)
        finally:
            _LARGE_PART.reset(token)
            part.take_out()
        found: httpx2.Response = answer.http_response
        self.learn(request.arguments, found.request)
        return found

    async def _ask(self, transport: Bounded, kind: _Kind, body: bytes) -> httpx2.Response:
        response = await transport.send(kind.request, kind.head, body)
        if response.is_success:
            return response
        error: openai.APIStatusError = self._client._make_status_error_from_response(response)
        raise error

    def learn(self, arguments: Json, sent: httpx2.Request) -> None:
        """Remember a request that the SDK made of ``arguments``, if others can be made like it."""
        kind = frozenset(arguments)
        full = kind in self._kinds or len(self._kinds) >= KINDS
        if self._transport is None or full or kind & _NOT_BODY - {"extra_body"}:
            return
        names = {name.lower() for name in sent.headers}
        if all(name in self._known or name.startswith(_KNOWN_PREFIX) for name in names) and _is_body(arguments, sent):
            self._kinds[kind] = _Kind(sent, head_of(sent), self._client.api_key)


class _LargePart:
    """Puts a request's large part into what the SDK has made of the rest, for as long as it is sent."""

    def __init__(self, large: Json) -> None:
        self._large = large
        self._made: list[tuple[httpx2.Request, bytes]] = []

    def put_into(self, request: httpx2.Request) -> None:
        try:
            rest = request.content
        except httpx2.RequestNotRead:
            return  # a redirect, which has the whole body
        self._made.append((request, rest))
        try:
            body = orjson.dumps(orjson.loads(rest) | self._large)
        except orjson.JSONEncodeError:
            body = openapi_dumps(orjson.loads(rest) | self._large)
        _replace(request, body)

    def take_out(self) -> None:
        """Let no request that is kept keep it."""
        for request, rest in self._made:
            _replace(request, rest)


_LARGE_PART: ContextVar[_LargePart | None] = ContextVar("large part", default=None)


async def _on_request(request: httpx2.Request) -> None:
    if (part := _LARGE_PART.get()) is not None:
        part.put_into(request)


def _replace(request: httpx2.Request, body: bytes) -> None:
    request._content = body
    request.stream = httpx2.ByteStream(body)
    request.headers["content-length"] = str(len(body))


def _body(arguments: Json) -> Json:
    own = {name: value for name, value in arguments.items() if name not in _NOT_BODY}
    return {"stream": True, **own, **arguments.get("extra_body", {})}


def _is_body(arguments: Json, sent: httpx2.Request) -> bool:
    try:
        made = orjson.loads(sent.content)
        made.pop("messages", None)
        return bool(made == orjson.loads(orjson.dumps(_body(arguments))))
    except (orjson.JSONDecodeError, orjson.JSONEncodeError, httpx2.RequestNotRead):
        return False
