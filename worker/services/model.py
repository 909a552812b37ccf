"""A model as a service: the request goes to its client, whose reply goes into the sink."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from autogen_core.models import ChatCompletionClient, CreateResult, LLMMessage

from fleet.process.turns import Turns
from protos import chat_pb2 as pb
from worker.contract import capabilities, conversation, failures, options
from worker.contract.body import body
from worker.contract.errors import ClientFailed, Unsupported
from worker.contract.images import Images
from worker.contract.observer import Observer
from worker.contract.pushed import Pushed
from worker.contract.sink import Sink
from worker.contract.tool_call import tool_call
from worker.contract.utf8 import SurrogateJoiner


class ModelService:
    """Serves ``client``, the model ``name``, with ``system_message`` before every conversation."""

    def __init__(
        self,
        name: str,
        client: ChatCompletionClient,
        system_message: str,
        turns: Turns,
        images: Images,
        observer: Observer,
    ) -> None:
        self._name = name
        self._client = client
        self._pushed = client if isinstance(client, Pushed) else None  # here once, because it takes microseconds
        self._system_message = system_message
        self._turns = turns
        self._images = images
        self._observer = observer

    async def run(self, request: pb.ChatHistory, sink: Sink) -> pb.Done:
        """See :class:`worker.services.service.Service`."""
        with self._observer.model(self._name, self._client) as operation:
            operation.asked(request.messages)
            running = self._run(request, operation.through(sink))
            del request  # nothing of it must be kept for as long as the reply takes
            return operation.ended(await running)

    async def _run(self, request: pb.ChatHistory, sink: Sink) -> pb.Done:
        async with self._turns.turn() as turn:
            # Requests that come together are prepared in turns, so that they do not hold up anything else.
            await capabilities.check(request, self._client.model_info, turn)
            if (client := self._pushed) is not None:
                running = client.stream(sink, await body(request, self._system_message, turn, as_text=client.as_text))
            else:
                messages = await conversation.messages(request, self._system_message, turn)
                running = self._create_stream(messages, await options.arguments(request.options, turn), sink)
                del messages
        del request
        return await running

    async def _create_stream(self, messages: list[LLMMessage], arguments: dict[str, Any], sink: Sink) -> pb.Done:
        await self._images.admit(messages)
        pieces = self._client.create_stream(messages, **arguments)
        del messages, arguments
        return await _pump(pieces, sink)


async def _pump(pieces: AsyncGenerator[str | CreateResult, None], sink: Sink) -> pb.Done:
    """Write what another client yields. Its errors become :class:`ClientFailed`: it may raise anything."""
    result: CreateResult | None = None
    joiner = SurrogateJoiner()
    begun = False
    try:
        async with aclosing(pieces):
            async for piece in pieces:
                begun = True
                if isinstance(piece, CreateResult):
                    result = piece
                else:
                    sink.text(joiner.join(piece))
                    await sink.ready()
    except Exception as error:
        if type(error) is ValueError and not begun:  # how AutoGen's clients refuse a request
            raise Unsupported("this model's client does not take such a request; the worker's log has more") from error
        raise ClientFailed from error
    if result is None:
        raise RuntimeError("the model's client gave no result")
    sink.text(joiner.end())
    if isinstance(result.content, list):
        for index, call in enumerate(result.content):
            sink.event(tool_call(index, call.id, call.name, call.arguments))
    return pb.Done(finish_reason=result.finish_reason, usage=failures.usage(result.usage))
