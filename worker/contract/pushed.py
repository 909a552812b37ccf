"""What our own model clients have beside AutoGen's interface, and that interface on top of it."""

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any, ClassVar, Protocol, runtime_checkable

from autogen_core import CancellationToken
from autogen_core.models import CreateResult, LLMMessage

from protos import chat_pb2 as pb
from worker.contract.autogen_body import autogen_body
from worker.contract.collected import collect
from worker.contract.sink import Sink


@runtime_checkable
class Pushed(Protocol):
    """A model's client that writes its reply into a sink."""

    as_text: ClassVar[bool]
    """Whether it only sends on what it does not know, and takes it as text; see :mod:`worker.contract.body`."""

    async def stream(self, sink: Sink, body: dict[str, Any]) -> pb.Done:
        """Write the model's reply to an OpenAI request's body into ``sink``, and return how it ended.

        Cancelling stops the model. ``body`` may be changed, and must not be kept once the request is sent. Raises
        :class:`worker.contract.errors.Unsupported` for what the provider cannot do, and what
        :mod:`worker.contract.failures` knows.
        """


_STREAMS = ("include_usage", "max_consecutive_empty_chunk_tolerance")
"""Arguments of AutoGen's streams that mean nothing here: usage is always asked for, and empty chunks are no end."""


class ForAgents(ABC):
    """Lets agents call a pushed client in AutoGen's types."""

    @abstractmethod
    async def stream(self, sink: Sink, body: dict[str, Any]) -> pb.Done:
        """See :class:`Pushed`."""

    async def create_stream(
        self, messages: Sequence[LLMMessage], *, cancellation_token: CancellationToken | None = None, **arguments: Any
    ) -> AsyncGenerator[str | CreateResult, None]:
        """Yield the text as it arrives, then one ``CreateResult``. Raises what :meth:`stream` raises."""
        for name in _STREAMS:
            arguments.pop(name, None)
        running = collect(partial(self.stream, body=autogen_body(messages, **arguments)), cancellation_token)
        del messages, arguments
        async with aclosing(running) as pieces:
            async for piece in pieces:
                yield piece

    async def create(self, messages: Sequence[LLMMessage], **arguments: Any) -> CreateResult:
        """The last of :meth:`create_stream`."""
        async with aclosing(self.create_stream(messages, **arguments)) as pieces:
            async for piece in pieces:
                if isinstance(piece, CreateResult):
                    return piece
        raise AssertionError("create_stream yields a result or raises")
