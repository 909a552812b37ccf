"""Spans of a worker, by the GenAI conventions: a run, and within it agents' turns and calls of tools and models."""

import asyncio
import time
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

import orjson
from opentelemetry import context, trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer

from fleet.tracing.context import remote
from fleet.usage import details
from protos import chat_pb2 as pb
from worker.contract import failures
from worker.contract.observer import Observer, Operation
from worker.contract.route import route
from worker.contract.sink import Sink
from worker.serving import content

OPERATIONS = {"chat": "chat", "completions": "text_completion", "embeddings": "embeddings"}
NAME = 128
"""Characters of a name that a model or a client has chosen."""

CONVERSATION = ("conversation_id", "thread_id", "session_id")
"""Fields of a request's metadata that name its conversation."""

_RUN = context.create_key("chatfleet.run")


class Passing(Observer):
    """Makes no spans, but passes the client's trace on to whatever a run calls, and to the log."""

    def run(self, request: pb.ChatHistory) -> AbstractContextManager[Operation]:
        within = remote(request.traceparent, request.tracestate)
        return super().run(request) if within is None else _Passed(within)


class Tracing(Observer):
    """Makes spans with ``tracer``; with ``has_content`` they have what is asked and answered."""

    def __init__(self, tracer: Tracer, *, has_content: bool = False) -> None:
        self._tracer = tracer
        self._has_content = has_content
        self._models: WeakKeyDictionary[object, dict[str, Any]] = WeakKeyDictionary()
        """The attributes of each client's model."""

    def run(self, request: pb.ChatHistory) -> AbstractContextManager[Operation]:
        attributes = {"chatfleet.model": request.model}
        if conversation := _conversation(request.options.extra):
            attributes["gen_ai.conversation.id"] = conversation
        within = remote(request.traceparent, request.tracestate) or Context()
        return _Run(self._tracer, f"run {request.model}", SpanKind.SERVER, attributes, within)

    def agent(self, name: str) -> AbstractContextManager[Operation]:
        attributes = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": name}
        return _Spanned(self._tracer, f"invoke_agent {name}", SpanKind.INTERNAL, attributes)

    def tool(self, name: str, call_id: str) -> AbstractContextManager[Operation]:
        name = name[:NAME]
        attributes = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": name,
            "gen_ai.tool.call.id": call_id[:NAME],
        }
        kind = _Tool if self._has_content else _Spanned
        return kind(self._tracer, f"execute_tool {name}", SpanKind.INTERNAL, attributes)

    def model(self, name: str, client: object, endpoint: str = "chat") -> AbstractContextManager[Operation]:
        operation = OPERATIONS.get(endpoint, endpoint)
        known = self._models.get(client) or self._models.setdefault(client, _model(client, name))
        attributes = {"gen_ai.operation.name": operation, "chatfleet.model": name, **known}
        kind = _ModelWithContent if self._has_content else _Model
        return kind(self._tracer, f"{operation} {known['gen_ai.request.model']}", SpanKind.CLIENT, attributes)


class _Within(Operation, AbstractContextManager[Operation]):
    """Makes a context the current one. It may be left in another task, where its variable's token is worth nothing."""

    def _enter(self, within: Context) -> None:
        self._outer = context.get_current()
        context.attach(within)

    def _leave(self) -> None:
        context.attach(self._outer)


class _Passed(_Within):
    def __init__(self, within: Context) -> None:
        super().__init__()
        self._within = within

    def __enter__(self) -> Operation:
        self._enter(self._within)
        return self

    def __exit__(self, *error: object) -> None:
        self._leave()


class _Spanned(_Within):
    """A span, and how what it shows has gone."""

    def __init__(
        self, tracer: Tracer, name: str, kind: SpanKind, attributes: dict[str, Any], within: Context | None = None
    ) -> None:
        super().__init__()
        self._tracer = tracer
        self._begin = name, kind, attributes
        self._parent = within
        self.span: Span = trace.INVALID_SPAN

    def __enter__(self) -> Operation:
        parent = context.get_current() if self._parent is None else self._parent
        name, kind, attributes = self._begin
        self.span = self._tracer.start_span(name, parent, kind, attributes)
        self._enter(self._context(parent))
        return self

    def _context(self, parent: Context) -> Context:
        """That of what belongs to the span."""
        return trace.set_span_in_context(self.span, parent)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._leave()
        try:
            if self.span.is_recording():
                self._tell(self.span, _code(error) if error is not None else self.code)
        finally:
            self.span.end()

    def _tell(self, span: Span, code: str) -> None:
        attributes = self._ended()
        if code == "cancelled":
            attributes["chatfleet.code"] = code
        elif code != "ok":
            attributes["error.type"] = code
            span.set_status(StatusCode.ERROR)
        if attributes:
            span.set_attributes(attributes)  # in one go, which costs less

    def _ended(self) -> dict[str, Any]:
        """What is known at the end."""
        return {}


class _Model(_Spanned):
    _first: float | None = None

    def __enter__(self) -> Operation:
        made = super().__enter__()
        run = context.get_value(_RUN)
        if isinstance(run, _Run) and run.first_call is None:
            run.first_call = self
        self._began = time.monotonic()
        return made

    def first_event(self) -> None:
        self._first = round(time.monotonic() - self._began, 4)

    def _ended(self) -> dict[str, Any]:
        attributes: dict[str, Any] = {}
        if self._first is not None:
            attributes["gen_ai.response.time_to_first_chunk"] = self._first
        if self.finish_reason:
            attributes["gen_ai.response.finish_reasons"] = (self.finish_reason,)
            attributes["gen_ai.usage.input_tokens"] = self.usage.prompt_tokens
            attributes["gen_ai.usage.output_tokens"] = self.usage.completion_tokens
            attributes |= _details(self.usage)
        return attributes


class _Run(_Spanned):
    first_call: _Model | None = None
    """The first call of a model, of which the first event is taken to be."""

    def _context(self, parent: Context) -> Context:
        return context.set_value(_RUN, self, super()._context(parent))

    def first_event(self) -> None:
        if self.first_call is not None:
            self.first_call.first_event()


class _ModelWithContent(_Model):
    _heard: content.Listening | None = None

    def asked(self, content_: object) -> None:
        if self.span.is_recording():
            self.span.set_attribute("gen_ai.input.messages", content.messages(content_))

    def answered(self, content_: object) -> None:
        if self.span.is_recording():
            self.span.set_attribute("gen_ai.output.messages", content.answer(content_, self.finish_reason))

    def through(self, sink: Sink) -> Sink:
        if self.span.is_recording():
            self._heard = sink = content.Listening(sink)
        return sink

    def _ended(self) -> dict[str, Any]:
        if self._heard is not None:
            self.answered(self._heard.said())
        return super()._ended()


class _Tool(_Spanned):
    def asked(self, content_: object) -> None:
        if self.span.is_recording():
            self.span.set_attribute("gen_ai.tool.call.arguments", content.arguments(content_))

    def answered(self, content_: object) -> None:
        if self.span.is_recording():
            self.span.set_attribute("gen_ai.tool.call.result", content.result(content_))


def _code(error: BaseException) -> str:
    if isinstance(error, asyncio.CancelledError | GeneratorExit):
        return "cancelled"
    if not isinstance(error, Exception):
        return type(error).__name__
    code = failures.code(error)
    return type(error).__name__ if code == "internal_error" else code


def _model(client: object, name: str) -> dict[str, Any]:
    """The attributes of a client's model, where the client is one of AutoGen's or stands in for one."""
    made = getattr(client, "_create_args", None)
    model = made.get("model") if isinstance(made, dict) else None
    module = type(client).__module__.removeprefix("autogen_ext.models.")
    provider = getattr(client, "provider_name", "") or module.split(".")[0]
    attributes = {"gen_ai.provider.name": str(provider), "gen_ai.request.model": str(model or name)}
    server = urlsplit(f"//{route('', {}, client).host}")
    return attributes | (
        {"server.address": server.hostname, "server.port": server.port or 443} if server.netloc else {}
    )


def _details(usage: pb.Usage) -> dict[str, int]:
    """The parts of a usage that are counted by themselves."""
    names = "gen_ai.usage.cache_read.input_tokens", "gen_ai.usage.reasoning.output_tokens"
    return {name: count for name, count in zip(names, details(usage), strict=True) if count}


def _conversation(extra: str) -> str:
    """The conversation that a request names in its metadata; empty if it does not."""
    if '"metadata"' not in extra[: 64 * 1024]:
        return ""
    try:
        metadata = orjson.loads(extra).get("metadata")
    except (ValueError, AttributeError):
        return ""
    named = [metadata[name] for name in CONVERSATION if name in metadata] if isinstance(metadata, dict) else []
    return next((name[:NAME] for name in named if isinstance(name, str)), "")
