"""One chat: a history goes to the model, its stream goes to the reply, and exactly one terminal event ends it."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from autogen_core.models import CreateResult, RequestUsage

from fleet import logs
from fleet.lane import EventTooLarge, Sink
from fleet.process.turns import Turns
from protos import chat_pb2 as pb
from worker.contract import conversation, failures, options
from worker.contract.images import Images
from worker.contract.utf8 import SurrogateJoiner, clean
from worker.openai.client import Streaming
from worker.openai.completion import ID_LIMIT, NAME_LIMIT, StreamBroken
from worker.openai.pieces import ReasoningText, TextPiece, TokenLogprobs, ToolCallPart
from worker.serving.catalog import Model

log = logs.logger(__name__)


class Chat:
    """Runs one attempt at one request. Cancel its task to stop it; ``reason`` is then what the gateway is told.

    ``on_first`` is called with the model's first piece: the request has been sent, and is no longer kept here.
    """

    def __init__(
        self,
        history: pb.ChatHistory,
        model: Model,
        reply: Sink,
        turns: Turns,
        images: Images,
        on_first: Callable[[], None] = lambda: None,
    ) -> None:
        self.request_id = history.request_id
        self.attempt = history.attempt
        self.gateway_id = history.reply_to
        self.reason = "shutdown"
        self._history = history
        self._model = model
        self._reply = reply
        self._turns = turns
        self._images = images
        self._started = False
        self._on_first = on_first
        self._called = False
        self._joiner = SurrogateJoiner()

    async def run(self) -> None:
        """Stream the model's reply. Returns, whatever happens, after the terminal event was written."""
        self._reply.accept()
        deadline = asyncio.timeout(self._time_left())
        try:
            async with deadline:
                end = await self._stream()
                await self._reply.ready()
                self._reply.finish(end)
        except asyncio.CancelledError:
            self._reply.finish(pb.Cancelled(reason=self.reason))
            raise
        except Exception as error:
            failure = self._failure(error, deadline.expired())
            say = log.error if failure.code == "internal_error" else log.warning
            say("chat failed", request=self.request_id, model=self._model.name, code=failure.code, exc_info=error)
            try:
                await self._reply.ready()
            except asyncio.CancelledError:
                self._reply.finish(pb.Cancelled(reason=self.reason))
                raise
            self._reply.finish(failure)

    def _failure(self, error: Exception, expired: bool) -> pb.Error:
        """What to tell of ``error``. Nothing may be raised here: it would end the worker, with every chat on it."""
        try:
            return failures.deadline() if expired else failures.failure(error, self._started)
        except Exception as defect:
            log.error("a failure was not understood", request=self.request_id, exc_info=defect)
            return pb.Error(code="internal_error", message="the worker failed")

    def _time_left(self) -> float | None:
        return self._history.deadline.ToNanoseconds() / 1e9 if self._history.HasField("deadline") else None

    async def _stream(self) -> pb.Done:
        result: CreateResult | None = None
        pieces = await self._ask()
        async with aclosing(pieces) as stream:
            async for piece in stream:
                if not self._started:
                    self._started = True
                    self._on_first()
                if isinstance(piece, CreateResult):
                    result = piece
                else:
                    await self._write(piece)
        if result is None:
            raise RuntimeError("the model's client gave no result")
        self._reply.text(self._joiner.end())
        if isinstance(result.content, list) and not self._called:
            for index, call in enumerate(result.content):
                self._call(ToolCallPart(index, call.id, call.name, call.arguments))
        return pb.Done(finish_reason=result.finish_reason, usage=failures.usage(result.usage))

    async def _ask(self) -> AsyncGenerator[str | CreateResult, None]:
        """The model's stream, which has the conversation now: nothing here keeps it for as long as the reply takes."""
        client = self._model.client
        history, self._history = self._history, pb.ChatHistory()
        async with self._turns.turn() as turn:
            # A crowd of requests is prepared one after the other, so that it delays nobody else.
            messages = await conversation.messages(history, self._model.system_message, turn)
            arguments = await options.arguments(history.options, turn, as_text=isinstance(client, Streaming))
        if isinstance(client, Streaming):
            return client.tapped_stream(self._tap, messages, keep=False, **arguments)
        await self._images.admit(messages)
        return _named(client.create_stream(messages, **arguments))

    def _tap(self, text: str, tokens: int) -> bool:
        """Take text past the stream, if that can be done without a wait."""
        if not self._joiner.empty or not self._reply.writable:
            return False
        self._reply.text(text, tokens)
        return True

    async def _write(self, piece: str) -> None:
        match piece:
            case ReasoningText():
                self._reply.reasoning(self._joiner.join(piece), piece.tokens)
            case ToolCallPart():
                self._call(piece)
            case TokenLogprobs():
                self._event(pb.ReplyEvent(logprobs=piece.json))
            case TextPiece():
                self._reply.text(self._joiner.join(piece), piece.tokens)
            case _:
                self._reply.text(self._joiner.join(piece))
        await self._reply.ready()

    def _call(self, part: ToolCallPart) -> None:
        self._called = True
        if len(part.id) > ID_LIMIT or len(part.name) > NAME_LIMIT:
            raise StreamBroken(
                f"a tool call's id is longer than {ID_LIMIT:,} characters, or its name than {NAME_LIMIT:,}",
                RequestUsage(0, 0),
            )
        call = pb.ToolCall(
            index=part.position, id=clean(part.id), name=clean(part.name), arguments=clean(part.arguments)
        )
        self._event(pb.ReplyEvent(tool_call=call))

    def _event(self, event: pb.ReplyEvent) -> None:
        try:
            self._reply.event(event)
        except EventTooLarge as error:
            raise StreamBroken(f"the model gave {error}", RequestUsage(0, 0)) from None


async def _named(pieces: AsyncGenerator[str | CreateResult, None]) -> AsyncGenerator[str | CreateResult, None]:
    """What another client yields, with its errors told apart from ours: it meets odd answers with any exception."""
    try:
        async with aclosing(pieces):
            async for piece in pieces:
                yield piece
    except Exception as error:
        raise failures.ClientFailed from error
