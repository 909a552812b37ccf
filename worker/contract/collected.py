"""A sink that collects a reply for AutoGen's ``create_stream``."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing
from typing import Any, cast

from autogen_core import CancellationToken, FunctionCall
from autogen_core.models import CreateResult, FinishReasons, RequestUsage

from fleet.lane import Producer
from protos import chat_pb2 as pb
from worker.contract.fields import Joined, refusal
from worker.contract.sink import Sink
from worker.contract.tool_call import join


class Collected:
    """Keeps what is written. The producer is paused while text waits for :meth:`pieces`."""

    def __init__(self) -> None:
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._calls: dict[int, FunctionCall] = {}
        self._fields = Joined()
        self._unread: deque[str] = deque()
        self._producer: Producer | None = None
        self._changed = asyncio.Event()
        self._read = asyncio.Event()

    def text(self, text: str, tokens: int = 1, source: str = "") -> None:
        self._text.append(text)
        self._unread.append(text)
        self._changed.set()
        self._read.clear()
        if self._producer is not None:
            self._producer.pause_reading()

    def reasoning(self, text: str, tokens: int = 1, source: str = "") -> None:
        self._reasoning.append(text)

    def event(self, event: pb.ReplyEvent) -> None:
        if event.HasField("fields"):
            if refused := refusal(self._fields.add(event.fields)):
                self.text(refused)
        elif event.HasField("tool_call"):
            join(self._calls, event.tool_call)

    def attach(self, producer: Producer | None) -> None:
        self._producer = producer
        if producer is not None and self._unread:
            producer.pause_reading()

    async def ready(self) -> None:
        if self._unread:
            await self._read.wait()

    async def pieces(self, writer: asyncio.Task[pb.Done]) -> AsyncGenerator[str]:
        """The text, as it is written by ``writer``, until that is done."""
        writer.add_done_callback(lambda _: self._changed.set())
        while True:
            while self._unread:
                yield self._unread.popleft()
            self._read.set()
            if writer.done():
                return
            if self._producer is not None:
                self._producer.resume_reading()
            self._changed.clear()
            await self._changed.wait()

    def result(self, done: pb.Done) -> CreateResult:
        """The whole reply."""
        text = "".join(self._text)
        thought = "".join(self._reasoning) or None
        calls = list(self._calls.values())
        return CreateResult(
            finish_reason=cast("FinishReasons", done.finish_reason),
            content=calls or text,
            usage=RequestUsage(done.usage.prompt_tokens, done.usage.completion_tokens),
            cached=False,
            thought=(thought or text or None) if calls else thought,
        )


async def collect(
    stream: Callable[[Sink], Coroutine[Any, Any, pb.Done]], token: CancellationToken | None = None
) -> AsyncGenerator[str | CreateResult, None]:
    """Yield the text that ``stream`` writes, as it arrives, then the whole. Raises what ``stream`` raises.

    Closing the generator ends the request.
    """
    collected = Collected()
    writer = asyncio.create_task(stream(collected))
    del stream  # it holds the conversation
    if token is not None:
        token.link_future(writer)
    try:
        async with aclosing(collected.pieces(writer)) as pieces:
            async for piece in pieces:
                yield piece
        yield collected.result(await writer)
    finally:
        writer.cancel()
        await asyncio.wait([writer])
